"""The DVC remote of a workspace: where its songs are pushed to and pulled from, and whether that works.

Git tracks the address, so that a clone finds it; the login is in DVC's own untracked file.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lyrics_lm import durable
from lyrics_lm.connection import Login
from lyrics_lm.errors import WorkspaceError

NAME = "lyrics-lm"
_LOCAL = Path(".dvc/config.local")
_REFUSALS = {
    401: "refused the token; give a valid one and connect again",
    403: "lets this token not write; ask the owner for write permission",
    404: "has no such repository; check owner and name",
}


def point_at(root: Path, url: str, login: Login | None) -> None:
    """Make `url` the default remote; the login is for HTTP, other kinds of remote have their own."""
    asked = login if url.startswith("http") else None
    address = {"url": url, **({"auth": "basic"} if asked else {})}
    secret = {"user": asked.user, "password": asked.token} if asked else {}
    with _edited(root, "repo") as config:
        config["remote"][NAME] = dict(address)
        config["core"]["remote"] = NAME
    _make_private(root / _LOCAL)
    with _edited(root, "local") as config:  # address and all: an older commit, checked out, has no such remote
        config["remote"][NAME] = {**address, **secret}
        config["core"]["remote"] = NAME


def forget(root: Path) -> bool:
    """Take the remote away again; returns whether there was one."""
    found = False
    for level in ("repo", "local"):
        with _edited(root, level) as config:
            found = config["remote"].pop(NAME, None) is not None or found
            if config["core"].get("remote") == NAME:
                del config["core"]["remote"]
    return found


def address(root: Path) -> str | None:
    """Where the workspace's default remote is; None where it has none."""
    from dvc.config import Config

    config = Config(str(root / ".dvc"))
    found = config["remote"].get(config["core"].get("remote"), {})
    return str(found["url"]) if "url" in found else None


def round_trip(root: Path) -> None:
    """Write an object to the default remote and read it back, past every cache.

    The object is the same each time, named by its content as all others there.
    Raises `WorkspaceError` in one line when the remote refuses or does not answer.
    """
    from aiohttp import ClientError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    probe = b"lyrics-lm connect\n"
    name = hashlib.md5(probe, usedforsecurity=False).hexdigest()
    with Repo(str(root)) as repo, tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(probe)
        url = repo.config["remote"][NAME]["url"]
        try:
            store = repo.cloud.get_remote_odb(NAME)
            path = store.oid_to_path(name)
            store.fs.put_file(file.name, path)
            back = store.fs.cat_file(path)
        except (OSError, DvcException, ClientError) as error:
            raise WorkspaceError(f"the DVC remote {url} {_reason(error)}") from error
    if back != probe:
        raise WorkspaceError(f"the DVC remote {url} gave back other bytes than it took; check what it is")


def _make_private(path: Path) -> None:
    """A file that its owner alone can read, there before the secret is."""
    if not path.is_file():
        durable.write(path, b"", private=True)
    path.chmod(0o600)


def _reason(error: Exception) -> str:
    status = 404 if isinstance(error, FileNotFoundError) else getattr(error, "status", None)
    if status in _REFUSALS:
        return _REFUSALS[status]
    said = " ".join(str(error).split())[:200]
    return f"does not answer ({said or type(error).__name__}); check the address and the network"


@contextmanager
def _edited(root: Path, level: str) -> Iterator[dict[str, Any]]:
    """DVC's configuration at that level; what is changed in the block is written back."""
    from dvc.config import Config

    with Config(str(root / ".dvc")).edit(level) as config:
        for section in ("core", "remote"):
            config.setdefault(section, {})
        yield config
