"""Writes that are either whole or not there: temporary name, fsync, rename."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lyrics_lm.errors import MachineError

FULL = "the disk is full"  # so begins what is said of it, in a log too
_LEAST = 2**20  # bytes: with less, no database takes another row
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RIGHTS = "check its owner and mode"
_PLACE = "choose another place"
_REFUSED = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _PLACE,
    errno.ENOTDIR: _PLACE,
    errno.EISDIR: _PLACE,
    errno.EEXIST: _PLACE,
    errno.ENAMETOOLONG: _PLACE,
}


def write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Put `data` at `path` in one step; a reader sees the old file or the new one, never a part.
    A `private` file can be read by its owner alone, from its first moment.

    Raises `MachineError` when the disk is full; the old file then still stands.
    """
    draft = _draft(path)
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(draft, "wb", opener=_for_owner if private else None) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def directory(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path`, replacing what was there, if the block succeeds.

    If it does not, or the disk is full (`MachineError`), what was there still stands.
    """
    draft = _draft(path)
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        try:
            yield draft
            for file in draft.rglob("*"):
                _sync(file)
            _swap_in(draft, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Turn a full disk, met while writing `path`, into an error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise told(error, path) from error


def require_room(folder: Path, said: str = "") -> None:
    """Raise `MachineError` when the disk of `folder` has no room, or what another program said is that."""
    free = shutil.disk_usage(folder).free
    if free < _LEAST or os.strerror(errno.ENOSPC) in said:
        raise MachineError(f"{FULL}: {free // 1024} kB are left for {folder}; free some room and run again")


def told(error: OSError, path: Path | None = None) -> MachineError:
    """What a person can do about a file that the system refuses; raises `error` again when it is nothing
    of the kind. `path` is what was to be written, where that is not in the error."""
    name = path or error.filename or "a file"
    if error.errno in _FULL:
        return MachineError(f"{FULL}: {name} was not written; free some room and run again")
    if error.errno in _REFUSED:
        return MachineError(f"{name} cannot be used: {error.strerror}; {_REFUSED[error.errno]}")
    raise error


def _swap_in(draft: Path, path: Path) -> None:
    """Rename `draft` to `path`. A folder cannot be renamed over a full one, so the old one steps aside
    for a moment, and comes back if the draft cannot take its place."""
    old = _draft(path)
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(draft, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
