"""`lyrics-lm up`: the whole loop on one machine, supervised, narrated, and gone at Ctrl-C."""

import contextlib
import hashlib
import ipaddress
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from rich.console import Console

from lyrics_lm import keys, processes, rollout
from lyrics_lm.errors import KeysError, MachineError
from lyrics_lm.orchestration.airflow import ROLES as AIRFLOW
from lyrics_lm.params import Settings
from lyrics_lm.processes import LOOPBACK
from lyrics_lm.records import to_json
from lyrics_lm.steps import signatures
from lyrics_lm.steps.pipeline import progress_path
from lyrics_lm.steps.progress import bar
from lyrics_lm.steps.train import read_progress

if TYPE_CHECKING:
    from circus.arbiter import Arbiter
    from circus.watcher import Watcher

_ROLES = ("service", "mlflow", "controller", *AIRFLOW, "training", "validation")
_CHECK_SECONDS = 0.25
_MEMORY = Path("/dev/shm")  # noqa: S108  # only a folder that no one else may enter is made there

Say = Callable[[str], None]


@dataclass(frozen=True)
class Command:
    """A process to keep running: its command line, and what its environment has beside ours."""

    line: list[str]
    environment: dict[str, str]


def up(
    settings: Settings,
    port: int,
    say: Say,
    *,
    host: str = LOOPBACK,
    conductor: Callable[[], dict[str, Command]] | None = None,
) -> None:
    """Start MLflow, the service and the controller, or what `conductor` gives by role instead; return when all of
    them have ended. Only the service listens at `host`, the rest on this machine alone.

    Raises `MachineError` when the address is not ours, the port is taken or the workspace is up already, `KeysError`
    when other machines can reach that address and there is no key for them.
    """
    if fault := processes.host_fault(host):
        raise MachineError(f"{host} {fault}; take one that is, or all: lyrics-lm up --host 0.0.0.0")
    host = processes.address(host)
    _require_keys(settings, host)
    with _alone(settings):
        processes.stop_leftovers(settings.home, *_ROLES)
        if fault := processes.port_fault(port, host):
            instead = processes.port_instead(port)
            raise MachineError(f"port {port} {fault}; take another: lyrics-lm up --port {instead}")
        _clear_observations(settings.home)
        with contextlib.ExitStack() as stack:
            stack.callback(processes.stop_leftovers, settings.home, *_ROLES)
            conducting = conductor() if conductor else controller(settings)
            url = settings.tracking_uri or stack.enter_context(_mlflow_address(settings))
            page = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
            say(f"starting; page {page}, MLflow {url}, logs {settings.home / 'logs'}")
            stack.enter_context(_narrated(settings))
            counters = stack.enter_context(_counters(settings.home))
            _supervise(settings.home, {**_servers(settings, host, port, url, counters), **conducting})
        say("stopped")


def _require_keys(settings: Settings, host: str) -> None:
    """Other machines are let in with a key alone, so without one nobody would be."""
    from lyrics_lm.serving import KEYS

    if not ipaddress.ip_address(host).is_loopback and not (keys.every(settings.home) or os.environ.get(KEYS)):
        raise KeysError(
            f"{host} can be reached from other machines; make a key for them first: lyrics-lm keys add NAME"
        )


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.home / "up.lock", timeout=0):
            yield
    except Timeout as error:
        raise MachineError(f"{settings.root} is up already; stop that one first (Ctrl-C in its terminal)") from error


def _mlflow_address(settings: Settings) -> contextlib.AbstractContextManager[str]:
    from lyrics_lm.registry import server

    return server.own(settings.home)


def _clear_observations(home: Path) -> None:
    """What an earlier service or training reported says nothing about those to come."""
    shutil.rmtree(rollout.observations(home, "local"), ignore_errors=True)
    progress_path(home).unlink(missing_ok=True)


def _supervise(home: Path, commands: dict[str, Command]) -> None:
    """Run until a signal; a process that dies is started again."""
    from circus.arbiter import Arbiter

    # While it stops, the arbiter complains at each tick that it is busy stopping.
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)
    watchers = [_watcher(home, role, command) for role, command in commands.items()]
    endpoint = f"inproc://{id(watchers)}"
    arbiter = Arbiter(
        watchers, endpoint, f"{endpoint}-events", check_delay=_CHECK_SECONDS, loglevel="ERROR", warmup_delay=0
    )
    try:
        arbiter.start()
    finally:
        arbiter.stop()


def controller(settings: Settings, *options: str) -> dict[str, Command]:
    """`lyrics-lm watch`, by its role."""
    line = [sys.executable, "-m", "lyrics_lm", "-C", str(settings.root), "watch", *options]
    return {"controller": Command(line, {"LYRICS_LM_HOME": str(settings.home)})}


@contextlib.contextmanager
def _counters(home: Path) -> Iterator[Path]:
    """A folder in which the workers count together, gone at the end. They map its files into memory, and the system
    kills a worker that writes where the disk is full: so it lies in memory, where there is such a place."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    folder = place / f"lyrics-lm-{os.getuid()}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"
    shutil.rmtree(folder, ignore_errors=True)  # what a killed one left
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _servers(settings: Settings, host: str, port: int, url: str, counters: Path) -> dict[str, Command]:
    """The service, and MLflow where it is ours."""
    from lyrics_lm.packaging import bentos
    from lyrics_lm.registry import server
    from lyrics_lm.serving import COPYING, COUNTERS, HOME, KEEPING, TARGET, TRUST, WORKERS

    home = settings.home
    told = {HOME: str(home), TARGET: "local", WORKERS: str(settings.params.serving.workers)}
    told[COPYING] = str(settings.params.gates.copying if settings.params.serving.copy_guard else 0)
    told[COUNTERS] = str(counters)
    told[KEEPING] = settings.params.traffic.model_dump_json()
    if trust := signatures.trust(settings):
        told[TRUST] = to_json(trust).decode()
    service = [sys.executable, "-m", "bentoml", "serve", bentos.SERVICE, "--host", host, "--port", str(port)]
    commands = {"service": Command(service, {**bentos.serving_environment(home), **told})}
    if not settings.tracking_uri:
        commands["mlflow"] = Command(server.command(home, int(url.rpartition(":")[2])), server.ENVIRONMENT)
    return commands


def _watcher(home: Path, role: str, command: Command) -> "Watcher":
    from circus.watcher import Watcher

    from lyrics_lm.steps.log_file import LogFile

    log = LogFile(_log(home, role))

    def stop_orphans(arbiter: "Arbiter", **_: object) -> bool:
        """A killed parent leaves children that would hold its port, and pipes that circus goes on listening to: a
        process whose own pipe gets such a number could not be started."""
        processes.stop_leftovers(home, role)
        for redirector in filter(None, (watcher.stream_redirector for watcher in arbiter.watchers)):
            closed = [number for number, (_, _, pipe) in redirector.pipes.items() if pipe.closed]
            for number in closed:
                redirector.remove_fd(number)
        return True

    return Watcher(
        role,
        command.line[0],
        command.line[1:],
        working_dir=str(home),
        env={**os.environ, **command.environment, **processes.mark(home, role)},
        stdout_stream={"stream": log},
        stderr_stream={"stream": log},
        graceful_timeout=8,
        max_retry=-1,
        hooks={"before_spawn": (stop_orphans, False)},
    )


def _log(home: Path, role: str) -> Path:
    return home / "logs" / f"{role}.log"


@contextlib.contextmanager
def _narrated(settings: Settings) -> Iterator[None]:
    """Show what the controller says and how far a training is, for as long as the block lasts."""
    log = _log(settings.home, "controller")
    begin = log.stat().st_size if log.is_file() else 0
    ended = threading.Event()
    narrator = threading.Thread(target=_narrate, args=(settings.home, log, begin, ended), daemon=True)
    narrator.start()
    try:
        yield
    finally:
        ended.set()
        narrator.join()


def _narrate(home: Path, log: Path, position: int, ended: threading.Event) -> None:
    console = Console(highlight=False)
    with bar(console) as show:
        while not ended.wait(0.2):
            position = _print_new(console, log, position)
            show(read_progress(home))
        _print_new(console, log, position)


def _print_new(console: Console, log: Path, position: int) -> int:
    """Print whole lines beyond `position`; returns where the next ones begin."""
    if not log.is_file() or log.stat().st_size == position:
        return position
    with open(log, "rb") as file:
        file.seek(position if log.stat().st_size > position else 0)
        for line in file:
            if not line.endswith(b"\n"):
                break
            position = file.tell()
            console.print(line.decode(errors="replace").rstrip("\n"), markup=False, soft_wrap=True)
    return position
