"""Writes that are either whole or not there: temporary name, fsync, rename."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lyrics_lm.errors import MachineError


def write(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step; a reader sees the old file or the new one, never a part.

    Raises `MachineError` when the disk is full; the old file then still stands.
    """
    draft = _draft(path)
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(draft, "wb") as file:
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
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError(f"the disk is full: {path} was not written; free some room and run again") from error


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


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
