"""Processes of one home: marked in their environment, so that what a killed run left can be found and stopped."""

import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

_HOME = "LYRICS_LM_OWNED_BY"
_ROLE = "LYRICS_LM_ROLE"
_GRACE_SECONDS = 8
_PORTS = 2**16
LOOPBACK = "127.0.0.1"


def mark(home: Path, role: str) -> dict[str, str]:
    """Environment variables that mark a process, and all it starts, as `role` of `home`."""
    return {_HOME: str(home), _ROLE: role}


def leftovers(home: Path, *roles: str, folder: Path | None = None) -> list[psutil.Process]:
    """Processes of those roles that run for `home`, or only those in that working folder (this one's own
    line excepted)."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in mine and _marked(process, str(home), roles, folder)
    ]


def stop_leftovers(home: Path, *roles: str, folder: Path | None = None) -> int:
    """Stop what an earlier run of `home` left behind; returns how many processes that were."""
    found = leftovers(home, *roles, folder=folder)
    _end(found)
    return len(found)


def stop(pid: int) -> None:
    """Stop a process and everything it started: asked first, killed after some seconds."""
    try:
        root = psutil.Process(pid)
        _end([root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_fault(port: int, host: str = LOOPBACK) -> str:
    """Why no server could listen on this port now; empty where one could."""
    try:
        _bind(port, host)
    except PermissionError:
        return "is for administrators only"
    except OSError:
        return "is in use"
    return ""


def address(host: str) -> str:
    """The address of a name, in numbers."""
    return str(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][4][0])


def host_fault(host: str) -> str:
    """Why no server could listen at this address, whatever the port; empty where one could."""
    try:
        _bind(0, host)
    except socket.gaierror:
        return "is no address"
    except OSError:
        return "is not an address of this machine"
    return ""


def port_instead(port: int) -> int:
    """The first port above this one where a server could listen now."""
    return next((other for other in range(port + 1, _PORTS) if not port_fault(other)), None) or free_port()


def _bind(port: int, host: str) -> None:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _marked(process: psutil.Process, home: str, roles: tuple[str, ...], folder: Path | None) -> bool:
    try:
        environment = process.environ()
        fits = environment.get(_HOME) == home and environment.get(_ROLE) in roles
        return fits and folder in (None, Path(process.cwd()))
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _end(found: Iterable[psutil.Process]) -> None:
    running = list(found)
    for process in running:
        _signal(process.terminate)
    _, stubborn = psutil.wait_procs(running, timeout=_GRACE_SECONDS)
    for process in stubborn:
        _signal(process.kill)
    psutil.wait_procs(stubborn, timeout=_GRACE_SECONDS)


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
