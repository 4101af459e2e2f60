"""The embedded MLflow server: one per home, shared by whoever finds it running."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock, Timeout

from lyrics_lm import durable, processes
from lyrics_lm.errors import RegistryError
from lyrics_lm.params import Settings

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # spares seven helper processes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_ROLE = "mlflow"
_START_SECONDS = 90
_USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_SEARCH = "/api/2.0/mlflow/experiments/search"
_REFUSALS = {
    401: "refuses the token; connect again with a valid one, or set MLFLOW_TRACKING_USERNAME and _PASSWORD",
    403: "does not let this token in; ask the owner for permission",
    404: "is no MLflow server; check the address",
}


def command(home: Path, port: int) -> list[str]:
    """The command line of the embedded server: SQLite and artifacts under `home`, on loopback only."""
    folder = home / "mlflow"
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination": str(folder / "artifacts"),
    }
    return [sys.executable, "-m", "mlflow", "server", *(part for option in options.items() for part in option)]


@contextmanager
def own(home: Path) -> Iterator[str]:
    """Become the one that runs this home's server; yields the address where it must listen.

    Raises `RegistryError` when another process runs it already. What a killed owner left is stopped.
    """
    folder = home / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "server.lock", timeout=0):
            processes.stop_leftovers(home, _ROLE)
            url = f"http://127.0.0.1:{processes.free_port()}"
            durable.write(folder / "server.url", url.encode())
            yield url
    except Timeout as error:
        raise RegistryError(f"another process runs the MLflow server of {home}; stop it first") from error


@contextmanager
def tracking(settings: Settings) -> Iterator[str]:
    """The tracking URI of this workspace, answering: the configured one, the running embedded
    server, or one started for as long as the block lasts.

    Raises `RegistryError` when it does not answer.
    """
    if settings.tracking_uri:
        with _identified(settings):
            if fault := _fault(settings.tracking_uri):
                raise RegistryError(f"MLflow at {settings.tracking_uri} {fault}")
            yield settings.tracking_uri
        return
    with _full_disk_told(settings.home):
        if is_running(settings.home):
            url = (settings.home / "mlflow" / "server.url").read_text()
            wait(url)
            yield url
        else:
            with own(settings.home) as url, _running(settings.home, url):
                yield url


def is_running(home: Path) -> bool:
    """Whether some process runs the embedded server of this home."""
    try:
        with FileLock(_made(home / "mlflow") / "server.lock", timeout=0):
            return False
    except Timeout:
        return True


def fault(settings: Settings) -> str:
    """Why the configured server cannot be used, with the remedy; empty when it can."""
    with _identified(settings):
        return _fault(settings.tracking_uri or "")


def wait(url: str, seconds: float = _START_SECONDS) -> None:
    """Return once the server answers; raises `RegistryError` after that many seconds."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if answers(url):
            return
        time.sleep(0.1)
    raise RegistryError(f"MLflow at {url} did not answer within {seconds:.0f} s; see the logs folder, then run again")


def answers(url: str) -> bool:
    """Whether an MLflow server is well there."""
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.TransportError:
        return False


@contextmanager
def _full_disk_told(home: Path) -> Iterator[None]:
    """A server whose disk is full refuses in other words."""
    try:
        yield
    except RegistryError as error:
        durable.require_room(home, str(error))
        raise


@contextmanager
def _identified(settings: Settings) -> Iterator[None]:
    """MLflow's own variables hold the login that `connect` keeps, for as long as the block lasts."""
    login = settings.login
    told = {_USER: login.user, _PASSWORD: login.token} if login else {}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _fault(uri: str) -> str:
    """What keeps us from a server that a person named, with the remedy; empty when nothing does."""
    if not uri.startswith("http"):
        return ""
    try:
        answer = httpx.post(f"{uri.rstrip('/')}{_SEARCH}", json={"max_results": 1}, timeout=20, **_credentials())
    except httpx.HTTPError as error:
        return f"does not answer ({error or type(error).__name__}); start it, or use another: lyrics-lm connect local"
    if answer.is_success:
        return ""
    return _REFUSALS.get(answer.status_code, f"answers {answer.status_code}; see its log")


def _credentials() -> dict[str, Any]:
    user, token = os.environ.get(_USER), os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user:
        return {"auth": (user, os.environ.get(_PASSWORD, ""))}
    return {"headers": {"authorization": f"Bearer {token}"}} if token else {}


@contextmanager
def _running(home: Path, url: str) -> Iterator[None]:
    durable.require_room(home)
    log = _made(home / "logs") / "mlflow.log"
    environment = {**os.environ, **ENVIRONMENT, **processes.mark(home, _ROLE)}
    port = int(url.rpartition(":")[2])
    with open(log, "ab") as output:
        server = subprocess.Popen(
            command(home, port), stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        wait(url)
        yield
    finally:
        processes.stop(server.pid)
        server.wait()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
