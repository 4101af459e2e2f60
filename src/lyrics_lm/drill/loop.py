"""The loop under drill: a workspace with `lyrics-lm up` in it, and what can be seen and done from outside."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
from filelock import FileLock

from lyrics_lm import params, processes, rollout
from lyrics_lm.bundle import Bundle
from lyrics_lm.deployment.local import Local
from lyrics_lm.drill.supply import Supply
from lyrics_lm.errors import LyricsError
from lyrics_lm.packaging import bentos
from lyrics_lm.params import Settings
from lyrics_lm.records import Deployment, GateResult, LiveVersion, Verdict
from lyrics_lm.registry import versions
from lyrics_lm.registry.server import answers
from lyrics_lm.steps import deliver, scores
from lyrics_lm.steps.register import register_bundle

ROLES = ("service", "mlflow", "controller", "training", "validation")
_PATIENCE_SECONDS = 120.0
_OURS = ("LYRICS_LM_", "MLFLOW_")  # what a person has set there is not for the drill

T = TypeVar("T")


class NotRecovered(LyricsError):
    """The loop did not come to where it had to, in the time it had."""


class Loop:
    """A workspace, its home, and the processes of its `up`."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.home = workspace / ".lyrics-lm"
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._output = workspace.with_suffix(".up")
        self._process: subprocess.Popen[bytes] | None = None
        self._supply: Supply | None = None

    @property
    def settings(self) -> Settings:
        """As the workspace says now."""
        read = params.load(self.workspace)
        return Settings(read.root, self.home, None, read.params)

    @property
    def uri(self) -> str:
        """Where its MLflow listens."""
        return (self.home / "mlflow" / "server.url").read_text()

    @property
    def supply(self) -> Supply:
        """Bundles for this corpus."""
        if self._supply is None:
            self._supply = Supply(self.workspace.parent / "bundles", scores.current_dataset(self.settings))
        return self._supply

    @property
    def said(self) -> str:
        """What `up` has told so far."""
        return self._output.read_text() if self._output.is_file() else ""

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start `up`, and wait until it supervises."""
        before = self.said.count("starting;")
        with open(self._output, "ab") as output:
            self._process = subprocess.Popen(
                self.command("up", "--port", str(self.port)),
                stdout=output,
                stderr=output,
                env={**clean_environment(), **(environment or {})},
                start_new_session=True,
            )
        self.wait("up to start", lambda: self.said.count("starting;") > before, 60)

    def stop(self) -> None:
        """Ctrl-C, and whatever that left."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        processes.stop_leftovers(self.home, *ROLES)

    def kill_up(self) -> None:
        """kill -9 of `up` alone."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def command(self, *args: str) -> list[str]:
        """The command line of a verb in this workspace."""
        return [sys.executable, "-m", "lyrics_lm", "-C", str(self.workspace), *args]

    def run(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run a verb to its end."""
        return subprocess.run(
            self.command(*args), env=clean_environment(), capture_output=True, text=True, timeout=_PATIENCE_SECONDS
        )

    def begin(self, *args: str) -> "subprocess.Popen[bytes]":
        """Start a verb, and let it run."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            self.command(*args), env=clean_environment(), stdout=quiet, stderr=quiet, start_new_session=True
        )

    def git(self, *args: str) -> None:
        """Git in the workspace."""
        author = ("-c", "user.name=drill", "-c", "user.email=drill@localhost")
        subprocess.run(["git", *author, *args], cwd=self.workspace, check=True, capture_output=True)

    def commit(self, **assignments: object) -> None:
        """Commit settings (`section__key=value`), and whatever else has changed."""
        if assignments:
            params.override(self.workspace, [f"{key.replace('__', '.')}={value}" for key, value in assignments.items()])
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", "drill")

    def processes(self, role: str) -> list[psutil.Process]:
        """Those of a role, eldest first."""
        return sorted(processes.leftovers(self.home, role), key=lambda process: process.create_time())

    def workers(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        seen = {observed.pid for observed in rollout.observed(self.home, "local")}
        return [process for process in self.processes("service") if process.pid in seen]

    def live(self) -> str | None:
        """Digest of what serves, as the API tells; None where it does not answer, or nothing serves."""
        try:
            data = httpx.get(f"{self.url}/v1/models", timeout=2).json()["data"]
        except (httpx.HTTPError, ValueError, LookupError):
            return None
        return str(data[0]["digest"]) if data else None

    def mlflow_answers(self) -> bool:
        """Whether its MLflow is well."""
        return answers(self.uri)

    def wait(
        self, what: str, seen: Callable[[], T | None], seconds: float = _PATIENCE_SECONDS, every: float = 0.05
    ) -> T:
        """The first true result; raises `NotRecovered` after that many seconds."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            if found := seen():
                return found
            time.sleep(every)
        raise NotRecovered(f"{what}: did not come true within {seconds:.0f} s")

    def wait_live(self, digest: str, seconds: float = _PATIENCE_SECONDS) -> None:
        """Until that bundle serves."""
        self.wait(f"bundle {digest[:12]} to be live", lambda: self.live() == digest, seconds)

    def wait_idle(self, seconds: float = _PATIENCE_SECONDS) -> None:
        """Until nothing waits, and all that is deployed is on record."""
        mark = rollout.path(self.home, "local").with_suffix(".recorded")

        def idle() -> bool:
            current = rollout.read(self.home, "local").current
            recorded = mark.is_file() and current is not None and mark.read_text() == current.id
            return recorded and self.mlflow_answers() and not versions.pending(self.uri)

        self.wait("everything to be delivered and recorded", idle, seconds, every=0.3)

    def register(self, made: Bundle) -> int:
        """Register a bundle; the controller takes it from there."""
        return register_bundle(self.uri, made).version

    def put_live(self, made: Bundle) -> Deployment:
        """Put a bundle live past all gates, as if it had passed every one."""
        passed = GateResult("quality", True, "", "", "put live by the drill")
        verdict = Verdict(made.digest, None, time.time(), (passed,))
        with FileLock(self.home / deliver.LOCK, timeout=_PATIENCE_SECONDS):
            number = register_bundle(self.uri, made).version
            bentos.import_model(self.home, made)
            deployment = Local(self.home).deploy(self.version(made, number), "put live by the drill", verdict)
            versions.mark_verdict(self.uri, number, verdict)
            versions.mark_delivered(self.uri, number, deployment.id)
        return deployment

    def version(self, made: Bundle, number: int) -> LiveVersion:
        """An imported bundle as a rollout names it."""
        stored = bentos.stored(self.home, made.digest)
        path = str(stored.path if stored else made.path)
        return LiveVersion(number, made.digest, made.manifest.name, "bigram", 8.0, bentos.tag(made.digest), path)


def clean_environment() -> dict[str, str]:
    """Ours, without what would lead a drill to another home or registry."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def kill(found: list[psutil.Process]) -> None:
    """kill -9 of each."""
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
