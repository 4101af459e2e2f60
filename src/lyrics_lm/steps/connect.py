"""`lyrics-lm connect`: registry and songs on a team's servers, or on this machine again."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from lyrics_lm import connection, data_remote, durable, params, processes, rollout
from lyrics_lm.connection import Connection, Login
from lyrics_lm.errors import LyricsError, MachineError, ParamsError
from lyrics_lm.params import Settings

DAGSHUB = "https://dagshub.com"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_CONFIG = ".dvc/config"


@dataclass(frozen=True)
class Connected:
    """Where things are now, and what was done for it, a line each. `tracking_uri` None: on this machine."""

    tracking_uri: str | None
    dvc_remote: str | None
    done: tuple[str, ...]


def dagshub(host: str, repo: str, token: str) -> Connection:
    """What a DagsHub repository is made of: MLflow and a DVC remote, with the token as user and password."""
    if not _REPO.fullmatch(repo):
        raise ParamsError(f"{repo!r} is no DagsHub repository; write OWNER/REPO, as in its address")
    place = f"{host.rstrip('/')}/{repo}"
    return Connection(f"{place}.mlflow", f"{place}.dvc", Login(token, token))


def connect(settings: Settings, wanted: Connection) -> Connected:
    """Use these servers from now on, once both were written to and read from.

    The login goes to files that Git does not track. Where either server refuses, all stays as it was, and
    `RegistryError` or `WorkspaceError` says in one line which and why. Raises `MachineError` while `up` runs.
    """
    _require_rest(settings)
    wanted = _without_login(wanted)
    before = connection.read(settings.home)
    configs = {path: path.read_bytes() if path.is_file() else None for path in _configs(settings)}
    try:
        connection.write(settings.home, wanted)
        done = [_try_registry(settings)]
        if wanted.dvc_remote:
            data_remote.point_at(settings.root, wanted.dvc_remote, wanted.login)
            data_remote.round_trip(settings.root)
            done.append(f"DVC: {wanted.dvc_remote} is the default remote, written to and read from")
            done.append(f"its address is in {_CONFIG} (commit that), the login is not; share the songs with: dvc push")
        done += _carry_over(settings)
    except LyricsError:
        _put_back(settings, before, configs)
        raise
    return Connected(wanted.tracking_uri, wanted.dvc_remote, tuple(done))


def _without_login(wanted: Connection) -> Connection:
    """What stands in the registry's address is kept as the login; the songs' address is no place for one."""
    plain, inside = connection.registry(wanted.tracking_uri, "--tracking-uri")
    remote, secret = connection.apart(wanted.dvc_remote or "")
    if secret and secret.token:
        raise ParamsError(
            f"the address of {remote} holds a password, and Git tracks it; leave it out, and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or: dvc remote modify --local"
        )
    return replace(wanted, tracking_uri=plain, login=inside or wanted.login)


def disconnect(settings: Settings) -> Connected:
    """Use the MLflow of this machine and no remote of ours; what is on the servers stays there."""
    _require_rest(settings)
    connection.forget(settings.home)
    removed = data_remote.forget(settings.root)
    done = ["MLflow: the embedded server", *(["DVC: no remote; the songs are in this folder's cache"] * removed)]
    return Connected(None, None, (*done, *_carry_over(settings)))


def _require_rest(settings: Settings) -> None:
    if processes.leftovers(settings.home, "service", "controller", "mlflow", "training"):
        raise MachineError(f"{settings.root} is up; stop it (Ctrl-C in its terminal), connect, and start it again")


def _try_registry(settings: Settings) -> str:
    from lyrics_lm.registry.round_trip import round_trip
    from lyrics_lm.registry.server import tracking

    connected = params.load(settings.root)
    with tracking(connected) as uri:
        round_trip(uri)
        return f"MLflow: {uri} is the registry, written to and read from"


def _carry_over(settings: Settings) -> list[str]:
    """What is live here becomes a version of the registry as it is now, whose numbers are its own.

    Deployments before this moment stay on record where they were made; an undo does not reach them.
    """
    from lyrics_lm.packaging import bentos

    deployment = rollout.read(settings.home, "local").current
    stored = bentos.stored(settings.home, deployment.versions[0].digest) if deployment else None
    if deployment is None or stored is None:
        return []

    from lyrics_lm.registry import versions
    from lyrics_lm.registry.server import tracking
    from lyrics_lm.steps.record import record
    from lyrics_lm.steps.register import register_bundle

    live = deployment.versions[0]
    with tracking(params.load(settings.root)) as uri:
        number = register_bundle(uri, stored).version
        if deployment.evidence and versions.is_pending(versions.get(uri, number)):
            versions.mark_verdict(uri, number, deployment.evidence)
        moved = replace(live, version=number)
        begun = rollout.begin(settings.home, "local", moved, "live when the registry moved", deployment.evidence)
        record(uri, settings.home, "local")
        versions.mark_delivered(uri, number, begun.id)
    return [f"live: version {live.version} goes on serving; in this registry it is version {number}"]


def _configs(settings: Settings) -> list[Path]:
    return [settings.root / _CONFIG, settings.root / f"{_CONFIG}.local"]


def _put_back(settings: Settings, before: Connection | None, configs: dict[Path, bytes | None]) -> None:
    if before:
        connection.write(settings.home, before)
    else:
        connection.forget(settings.home)
    for path, data in configs.items():
        if data is None:
            path.unlink(missing_ok=True)
        else:
            durable.write(path, data, private=path.suffix == ".local")
