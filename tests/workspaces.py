"""Workspaces for tests: small, made by the real command line, started and stopped like a user's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from lyrics_lm import processes
from lyrics_lm.corpus import sample

LYRICS_LM = [sys.executable, "-m", "lyrics_lm"]
SONGS = 400
SHORT = {"training.steps": 120, "training.checkpoint_every": 20, "model.layers": 1, "model.width": 48}


def cli(workspace: Path, *args: str, check: bool = True, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    """Run `lyrics-lm -C workspace ARGS`, as a person would."""
    command = [*LYRICS_LM, "-C", str(workspace), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, **kwargs)
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done


def git(workspace: Path, *args: str) -> str:
    author = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    return subprocess.run(
        ["git", *author, *args], cwd=workspace, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def make_workspace(folder: Path, songs: int = SONGS, **settings: object) -> Path:
    """`lyrics-lm init`, and a committed `params.yaml` with which training takes seconds."""
    corpus = folder.with_suffix(".csv")
    sample.write(corpus, songs=songs)
    cli(folder.parent, "init", folder.name, "--corpus", str(corpus))
    set_params(folder, {**SHORT, **settings})
    git(folder, "commit", "-qam", "train for seconds")
    return folder


def set_params(workspace: Path, settings: dict[str, object]) -> None:
    from lyrics_lm import params

    params.override(workspace, [f"{key}={json.dumps(value)}" for key, value in settings.items()])


def wait_for(what: Callable[[], Any], seconds: float = 90, every: float = 0.1) -> Any:
    """The first true result of `what`; fails after that many seconds."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if result := what():
            return result
        time.sleep(every)
    raise AssertionError(f"did not come true within {seconds} s")


class Up:
    """`lyrics-lm up` in a session of its own, as in a terminal."""

    def __init__(self, workspace: Path, port: int | None = None) -> None:
        self.workspace = workspace
        self.home = workspace / ".lyrics-lm"
        self.port = port or processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._output = workspace.with_suffix(".up")
        self.start()

    def start(self) -> None:
        with open(self._output, "ab") as output:
            self.process = subprocess.Popen(
                [*LYRICS_LM, "-C", str(self.workspace), "up", "--port", str(self.port)],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def live(self) -> dict[str, Any] | None:
        """What `/v1/models` shows as live; None while nothing is, or nothing answers."""
        try:
            data = httpx.get(f"{self.url}/v1/models", timeout=5).json()["data"]
        except (httpx.TransportError, ValueError):
            return None
        return data[0] if data else None

    def wait_live(self, version: int | None = None, architecture: str | None = None, seconds: float = 90) -> dict[str, Any]:
        def seen() -> dict[str, Any] | None:
            live = self.live()
            fits = live and version in (None, live["version"]) and architecture in (None, live["architecture"])
            return live if fits else None

        try:
            return wait_for(seen, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.said}") from None

    def wait_said(self, text: str, seconds: float = 90) -> str:
        def seen() -> str | None:
            return next((line for line in self.said.splitlines() if text in line), None)

        try:
            return str(wait_for(seen, seconds))
        except AssertionError as error:
            raise AssertionError(f"{text!r} {error}; it said:\n{self.said}") from None

    def pids(self, role: str) -> list[int]:
        """Processes of a role, eldest first."""
        return [process.pid for process in processes.leftovers(self.home, role)]

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """kill -9 of `up` alone."""
        self.process.kill()
        self.process.wait()

    def end(self, roles: Sequence[str] = ("service", "mlflow", "controller", "training", "validation")) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        processes.stop_leftovers(self.home, *roles)
