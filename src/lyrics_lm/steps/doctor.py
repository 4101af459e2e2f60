"""`lyrics-lm doctor`: what this machine and workspace have, what they lack, and what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from lyrics_lm import params, processes, versioning
from lyrics_lm.errors import LyricsError, RegistryError

_MIN_FREE_GB = 2
_GIGABYTE = 1024**3
_MANY_MACHINES = ("CeleryExecutor", "KubernetesExecutor")


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` is empty when all is well."""

    what: str
    ok: bool
    seen: str
    remedy: str = ""


def doctor(start: Path, port: int) -> list[Finding]:
    """All findings; the first that is not ok is the first to mend."""
    return [*_machine(), *_workspace(start, port)]


def _machine() -> Iterator[Finding]:
    right = sys.version_info[:2] == (3, 11)
    yield Finding("Python", right, platform.python_version(), "" if right else "install Python 3.11, then: make setup")
    git = shutil.which("git")
    yield Finding("git", bool(git), git or "not found", "" if git else "install git")


def _workspace(start: Path, port: int) -> Iterator[Finding]:
    try:
        root = params.find(start)
        settings = params.load(root)
    except LyricsError as error:
        yield _failure("workspace", error)
        return
    yield Finding("workspace", True, str(root))
    room = shutil.disk_usage(root).free / _GIGABYTE
    enough = room >= _MIN_FREE_GB
    yield Finding("disk", enough, f"{room:.1f} GB free", "" if enough else f"free at least {_MIN_FREE_GB} GB")
    yield _look("corpus", lambda: f"{len(versioning.song_files(root))} files, {versioning.corpus_digest(root)}")
    yield _look("commit", lambda: (versioning.committed(root).commit or "")[:12])
    yield _mlflow(settings)
    yield _port(settings, port)
    if os.environ.get("AIRFLOW__CORE__EXECUTOR") in _MANY_MACHINES:
        yield from _shared(settings)


def _shared(settings: params.Settings) -> Iterator[Finding]:
    """What tasks must find on whichever machine they run."""
    from lyrics_lm import data_remote

    yield _shared_registry(settings.tracking_uri)
    if settings.tracking_uri:
        yield _look("shared bundles", lambda: _artifact_store(settings))
    remote = data_remote.address(settings.root)
    here = remote is not None and remote.startswith((".", "/"))
    remedy = f"make {remote} a mount of all machines, or: lyrics-lm connect" if here else ""
    none = "" if remote else "name one: lyrics-lm connect, or: dvc remote add --default"
    yield Finding("shared songs", bool(remote) and not here, remote or "no DVC remote", remedy or none)


def _shared_registry(uri: str | None) -> Finding:
    loopback = uri is not None and httpx.URL(uri).host in ("127.0.0.1", "localhost", "::1", "")
    remedy = "" if uri and not loopback else "set MLFLOW_TRACKING_URI to a server that all machines reach"
    return Finding("shared registry", not remedy, uri or "the embedded one, of this machine alone", remedy)


def _artifact_store(settings: params.Settings) -> str:
    from lyrics_lm.registry import round_trip, server

    with server.tracking(settings) as uri:
        store = round_trip.artifact_store(uri)
    if store.startswith(("/", "file:", ".")):
        raise RegistryError(f"{store} is on each machine's own disk; start MLflow with --artifacts-destination")
    return store


def _look(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except LyricsError as error:
        return _failure(what, error)


def _failure(what: str, error: LyricsError) -> Finding:
    fact, _, remedy = str(error).rpartition("; ")
    return Finding(what, False, fact or remedy, remedy if fact else "")


def _port(settings: params.Settings, port: int) -> Finding:
    if processes.leftovers(settings.home, "service"):
        return Finding("port", True, "lyrics-lm up runs here")
    fault = processes.port_fault(port)
    remedy = f"lyrics-lm up --port {processes.port_instead(port)}" if fault else ""
    return Finding("port", not fault, f"{port} {fault or 'is free'}", remedy)


def _mlflow(settings: params.Settings) -> Finding:
    from lyrics_lm.registry import server

    if settings.tracking_uri:
        fault, _, remedy = server.fault(settings).partition("; ")
        return Finding("MLflow", not fault, f"{settings.tracking_uri} {fault or 'answers'}", remedy)
    running = server.is_running(settings.home)
    return Finding("MLflow", True, f"embedded, {'running' if running else 'started when needed'}")
