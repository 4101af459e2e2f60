"""What wakes the DAGs: eyes of the triggerer on the registry, on the workspace's commits and songs, and on drift.

They only wake. Each DAG looks for itself at what there is to do, and also runs by the clock: an event that is lost
costs time, nothing else.
"""

import asyncio
import base64
import json
import logging
import os
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

# The last hundred: each carries its evidence, and an older one that waits again is found by the clock.
_SEARCH = (
    "/api/2.0/mlflow/model-versions/search?filter=name%3D%27lyrics-lm%27&order_by=version_number%20DESC&max_results=100"
)
_TIMEOUT_SECONDS = 10
_STILL_SECONDS = 10  # song files that lay so long are whole
_log = logging.getLogger(__name__)


class _Eye(BaseEventTrigger):
    """Looks every so many seconds; fires when there is something to do, and again when that is something else."""

    every = 1.0

    def __init__(self, workspace: str) -> None:
        super().__init__()
        self.workspace = workspace

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"workspace": self.workspace}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        before: Any = None
        reachable = True
        while True:
            try:
                seen = await asyncio.to_thread(self.look)
                reachable = True
                if seen and seen != before:
                    yield TriggerEvent(seen)
                before = seen
            except (OSError, ValueError) as error:  # it may be back the next time; until then the clock runs the DAG
                if reachable:
                    _log.warning("%s cannot see: %s", type(self).__name__, error)
                reachable = False
            await asyncio.sleep(self.every)

    def look(self) -> Any:
        """What there is to do, as JSON; nothing (None, or empty) when there is nothing."""
        raise NotImplementedError

    @property
    def home(self) -> Path:
        return Path(os.environ.get("LYRICS_LM_HOME") or Path(self.workspace) / ".lyrics-lm")


class RegistryEye(_Eye):
    """Versions that wait in the MLflow registry: without a verdict, or passed and not delivered."""

    def look(self) -> Any:
        waiting = [int(version["version"]) for version in _versions(self.home) if _is_pending(version)]
        return {"versions": sorted(waiting)} if waiting else None


class CorpusEye(_Eye):
    """The commit of the workspace and the song files in its inbox; and whether anything was ever registered,
    since the first training is followed by another."""

    every = 2.0

    def look(self) -> Any:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=self.workspace, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
        if head.returncode:
            raise ValueError(head.stderr.strip())
        inbox = Path(self.workspace) / "data" / "inbox"
        files = [path for path in inbox.iterdir() if path.is_file()] if inbox.is_dir() else []
        old = time.time() - _STILL_SECONDS
        names = sorted(path.name for path in files if max(path.stat().st_mtime, path.stat().st_ctime) < old)
        return {"commit": head.stdout.strip(), "inbox": names, "registered": bool(_versions(self.home))}


class DriftEye(_Eye):
    """An alarm that waits for an answer. Only lyrics-lm can tell, so it is asked, when there was traffic."""

    every = 10.0

    def __init__(self, workspace: str) -> None:
        super().__init__(workspace)
        self._asked: float = 0
        self._alarm: Any = None

    def look(self) -> Any:
        traffic = self.home / "traffic"
        newest = max((path.stat().st_mtime for path in traffic.rglob("*")), default=0.0) if traffic.is_dir() else 0.0
        if newest > self._asked or self._alarm:
            self._asked = time.time()
            self._alarm = self._ask()
        return self._alarm

    def _ask(self) -> Any:
        command = [os.environ.get("LYRICS_LM", "lyrics-lm"), "-C", self.workspace]
        asked = subprocess.run(
            [*command, "step", "drift_alarm", "--skip-code", "99"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if asked.returncode == 99:
            return None
        if asked.returncode:
            raise ValueError(asked.stderr.strip())
        return json.loads(asked.stdout.splitlines()[-1])


def _is_pending(version: dict[str, Any]) -> bool:
    tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
    verdict = tags.get("lyrics_lm.verdict")
    return verdict is None or (verdict == "passed" and "lyrics_lm.delivered" not in tags)


def _versions(home: Path) -> list[dict[str, Any]]:
    """The newest versions in the registry that the workspace is connected to."""
    url, headers = _server(home)
    request = urllib.request.Request(url.rstrip("/") + _SEARCH, headers=headers)  # noqa: S310  # the owner's own
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer).get("model_versions", [])
    return found


def _server(home: Path) -> tuple[str, dict[str, str]]:
    """Address and headers: of the environment, else as `lyrics-lm connect` keeps them, else of the embedded server."""
    url, user = os.environ.get("MLFLOW_TRACKING_URI"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    token, password = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    kept = home / "connection.json"
    if not url and kept.is_file():
        connection = json.loads(kept.read_bytes())
        login = connection.get("login") or {}
        url, user, password = connection["tracking_uri"], login.get("user"), login.get("token", "")
    url = url or (home / "mlflow" / "server.url").read_text()
    parts = urllib.parse.urlsplit(url)
    if parts.username:  # urllib would take it for a part of the host
        user, password = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if user:
        return url, {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return url, {"Authorization": f"Bearer {token}"} if token else {}
