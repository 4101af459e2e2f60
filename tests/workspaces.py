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

from lyrics_lm import params, processes
from lyrics_lm.corpus import sample

LYRICS_LM = [sys.executable, "-m", "lyrics_lm"]
SONGS = 400
SHORT = {"training.steps": 120, "training.checkpoint_every": 20, "model.layers": 1, "model.width": 48}


def run(command: Sequence[str], check: bool = True, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; when it fails, the test fails with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, **{"timeout": 240, **kwargs})
    assert not check or done.returncode == 0, done.stderr + done.stdout
    return done


def cli(workspace: Path, *args: str, check: bool = True, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    """Run `lyrics-lm -C workspace ARGS`, as a person would."""
    return run([*LYRICS_LM, "-C", str(workspace), *args], check, **kwargs)


def dvc(workspace: Path, *args: str) -> str:
    """Run DVC in a workspace; returns what it printed."""
    return run([sys.executable, "-m", "dvc", *args], cwd=workspace).stdout


def git(workspace: Path, *args: str) -> str:
    """Run Git in a workspace; returns what it printed."""
    author = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    return run(["git", *author, *args], cwd=workspace).stdout


def make_workspace(folder: Path, songs: int = SONGS, **settings: object) -> Path:
    """`lyrics-lm init`, and a committed `params.yaml` with which training takes seconds."""
    corpus = folder.with_suffix(".csv")
    sample.write(corpus, songs=songs)
    cli(folder.parent, "init", folder.name, "--corpus", str(corpus))
    set_params(folder, {**SHORT, **settings})
    git(folder, "commit", "-qam", "train for seconds")
    return folder


def set_params(workspace: Path, settings: dict[str, object]) -> None:
    """Write settings into `params.yaml`."""
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

    verb: tuple[str, ...] = ("up",)
    roles: tuple[str, ...] = ("service", "mlflow", "controller", "training", "validation")

    def __init__(self, workspace: Path, port: int | None = None, environment: dict[str, str] | None = None) -> None:
        self.workspace = workspace
        self._environment = environment
        self.home = workspace / ".lyrics-lm"
        self.port = port or processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._output = workspace.with_suffix(".up")
        self.start()

    def start(self) -> None:
        """Start, and wait until it has swept up what an earlier one left."""
        before = self.said.count("starting;") if self._output.is_file() else 0
        with open(self._output, "ab") as output:
            self.process = subprocess.Popen(
                [*LYRICS_LM, "-C", str(self.workspace), *self.verb, "--port", str(self.port)],
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )
        wait_for(lambda: self.said.count("starting;") > before or self.process.poll() is not None, seconds=60)

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

    def wait_live(
        self, version: int | None = None, architecture: str | None = None, seconds: float = 90
    ) -> dict[str, Any]:
        """What is live, once it is that version or that architecture."""

        def seen() -> dict[str, Any] | None:
            live = self.live()
            fits = live and version in (None, live["version"]) and architecture in (None, live["architecture"])
            return live if fits else None

        try:
            return wait_for(seen, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.said}") from None

    def wait_said(self, text: str, seconds: float = 90) -> str:
        """The first line in the terminal with that text."""

        def seen() -> str | None:
            return next((line for line in self.said.splitlines() if text in line), None)

        try:
            return str(wait_for(seen, seconds))
        except AssertionError as error:
            raise AssertionError(f"{text!r} {error}; it said:\n{self.said}") from None

    def pids(self, role: str) -> list[int]:
        """Processes of a role, eldest first: by when they began, since numbers start anew once they are used up."""
        found = processes.leftovers(self.home, role)
        return [process.pid for process in sorted(found, key=lambda process: process.create_time())]

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """Kill -9 of `up` alone."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Stop whatever is left, however the test ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        processes.stop_leftovers(self.home, *self.roles)
