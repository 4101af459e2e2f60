"""API keys of a home. A key is shown once, when it is made; only its SHA-256 is kept, in a file by its name."""

import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lyrics_lm import durable
from lyrics_lm.errors import KeysError

_FOLDER = "keys"
_PREFIX = "lyrics-"  # so that scanners for leaked secrets, and people, know one when they see it
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Key:
    """What is kept of a key: its name, the SHA-256 of its text, and when it was made (Unix seconds)."""

    name: str
    sha256: str
    made: float


def folder(home: Path) -> Path:
    """Where the keys of a home lie; it changes whenever one comes or goes."""
    return home / _FOLDER


def add(home: Path, name: str) -> str:
    """Make a key; returns its text, which nobody can tell again. Raises `KeysError` for a name that is taken."""
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r} is no name for a key; use letters, digits, dots and dashes")
    file = folder(home) / name
    if file.exists():
        raise KeysError(f"there is a key {name} already; choose another name, or: lyrics-lm keys remove {name}")
    text = _PREFIX + secrets.token_urlsafe(32)
    durable.write(file, digest(text).encode(), private=True)
    return text


def remove(home: Path, name: str) -> None:
    """Let nobody in with that key any more, from this moment. Raises `KeysError` when there is none."""
    known = [key.name for key in every(home)]
    if name not in known:
        raise KeysError(f"there is no key {name}; there is: {', '.join(known) or 'none'}")
    (folder(home) / name).unlink()


def every(home: Path) -> list[Key]:
    """All keys, by name."""
    found = []
    for file in sorted(folder(home).glob("*")):
        with contextlib.suppress(FileNotFoundError):  # taken back just now
            if _NAME.fullmatch(file.name):
                found.append(Key(file.name, file.read_text(errors="replace").strip(), file.stat().st_mtime))
    return found


def digest(text: str) -> str:
    """What is kept of a key: it has 256 bits of chance, so a plain hash gives nothing away."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def opens(text: str, known: Sequence[str]) -> bool:
    """Whether it is one of the keys of these hashes. Every one is compared, each in constant time."""
    given = digest(text)
    return sum(hmac.compare_digest(given.encode(), one.encode()) for one in known) > 0
