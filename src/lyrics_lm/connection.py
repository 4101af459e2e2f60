"""Where a workspace's registry and data live when they are not on this machine, and the login for them.

Kept in the home, readable by its owner alone; never in a file that Git tracks. Asks no server.
"""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from lyrics_lm import durable
from lyrics_lm.errors import WorkspaceError
from lyrics_lm.records import from_json, to_json

_FILE = "connection.json"


@dataclass(frozen=True)
class Login:
    """A name and a token (or password); DagsHub takes the token for both, so no text shows either."""

    user: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True)
class Connection:
    """`dvc_remote` None: the songs' remote is not ours to set. `login` None: neither server asks for one."""

    tracking_uri: str
    dvc_remote: str | None = None
    login: Login | None = None


def apart(address: str) -> tuple[str, Login | None]:
    """An address without the login that stands in it, and that login: so that whoever shows the one tells not the
    other."""
    parts = urlsplit(address)
    if not parts.username and not parts.password:
        return address, None
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return plain, Login(unquote(parts.username or ""), unquote(parts.password or ""))


def registry(address: str, variable: str) -> tuple[str, Login | None]:
    """The same of an MLflow server. Raises `WorkspaceError` for a database with a password: it could not be
    named without."""
    plain, login = apart(address)
    if login and login.token and not plain.startswith("http"):
        raise WorkspaceError(
            f"{variable} names {plain} with a password, which would be shown wherever it is named; "
            "start an MLflow server over it, and name that"
        )
    return (plain, login) if plain.startswith("http") else (address, None)


def read(home: Path) -> Connection | None:
    """The connection of this home; None where everything is on this machine."""
    file = home / _FILE
    try:
        return from_json(file.read_bytes(), Connection)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise WorkspaceError(f"{file} is damaged ({error}); run lyrics-lm connect again") from error


def write(home: Path, connection: Connection) -> None:
    """Keep it, for its owner's eyes alone."""
    durable.write(home / _FILE, to_json(connection), private=True)


def forget(home: Path) -> None:
    """Everything is on this machine again."""
    (home / _FILE).unlink(missing_ok=True)
