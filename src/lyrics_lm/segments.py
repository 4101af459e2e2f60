"""Parquet files that grow by whole batches: written, merged, forgotten, each in one step. Knows no record.

A batch is a file of its own, put in place by a rename, so whatever reads `*.parquet` (DuckDB, Polars) sees whole
batches only, and a kill loses at most the one under way. `MERGED` files of a level become one of the next. A
merged file names its sources: where a kill left some, they are passed over here, and swept away at the next merge;
others who read the folder may see a batch twice for that moment.
"""

import fcntl
import io
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm import durable

if TYPE_CHECKING:
    import polars as pl

MERGED = 64
_LARGE = 32_000_000  # bytes: such a file is merged no further
_SOURCES = "sources"
_STALE_SECONDS = 60  # a draft so old is what a killed writer left


@dataclass(frozen=True, order=True)
class Segment:
    """A file by its name: the stamps (milliseconds) between which its batches were written, and its level."""

    first: int
    last: int
    level: int
    path: Path


def write(folder: Path, batch: "pl.DataFrame") -> None:
    """Put one batch in place; raises `MachineError` when the disk is full."""
    now = time.time_ns() // 1_000_000
    _put(folder, batch, now, now, 0, [])


def listing(folder: Path) -> list[Segment]:
    """All segments, oldest first, without those that a merge has taken in."""
    found = _every(folder)
    taken = {name for segment in found if segment.level for name in _sources(segment)}
    return [segment for segment in found if segment.path.name not in taken]


def load(segment: Segment) -> "pl.DataFrame | None":
    """The batches of a segment. A damaged file is set aside, under a name that no one reads, and gives None.

    Raises `FileNotFoundError` when it was merged or forgotten since it was listed.
    """
    import polars as pl

    try:
        return pl.read_parquet(segment.path)
    except pl.exceptions.ComputeError:
        segment.path.rename(segment.path.with_suffix(".damaged"))
        return None


def compact(folder: Path) -> None:
    """Merge what has come together; what another process is merging is left to it."""
    with _alone(folder) as alone:
        if not alone:
            return
        _sweep(folder)
        level = 0
        while any(segment.level >= level for segment in _every(folder)):
            small = [one for one in _every(folder) if one.level == level and one.path.stat().st_size < _LARGE]
            for start in range(0, len(small) - MERGED + 1, MERGED):
                _merge(folder, small[start : start + MERGED])
            level += 1


def forget(folder: Path, *, days: float, megabytes: float) -> None:
    """Take away the oldest segments: those over that age, and those beyond that size in all."""
    horizon, room = (time.time() - days * 86400) * 1000, megabytes * 1e6
    for segment in reversed(_every(folder)):
        room -= _size(segment.path)
        if room < 0 or segment.last < horizon:
            segment.path.unlink(missing_ok=True)


def _merge(folder: Path, segments: Sequence[Segment]) -> None:
    import polars as pl

    loaded = [frame for frame in map(load, segments) if frame is not None]
    if not loaded:
        return
    merged = pl.concat(loaded, how="diagonal")
    names = [segment.path.name for segment in segments]
    first, last = min(one.first for one in segments), max(one.last for one in segments)
    _put(folder, merged, first, last, segments[0].level + 1, names)
    for segment in segments:
        segment.path.unlink(missing_ok=True)


def _put(folder: Path, frame: "pl.DataFrame", first: int, last: int, level: int, sources: list[str]) -> None:
    content = io.BytesIO()
    frame.write_parquet(content, metadata={_SOURCES: json.dumps(sources)})
    durable.write(folder / f"{level}-{first:013d}-{last:013d}-{uuid.uuid4().hex[:8]}.parquet", content.getvalue())


def _sources(segment: Segment) -> list[str]:
    import polars as pl

    try:
        return list(json.loads(pl.read_parquet_metadata(segment.path).get(_SOURCES, "[]")))
    except (FileNotFoundError, pl.exceptions.ComputeError):  # merged further, forgotten, or damaged
        return []


def _every(folder: Path) -> list[Segment]:
    found = []
    for path in folder.glob("[0-9]-*.parquet"):
        level, first, last, _ = path.name.split("-")
        found.append(Segment(int(first), int(last), int(level), path))
    return sorted(found)


def _sweep(folder: Path) -> None:
    """Take away what killed writers left: drafts, and sources of a merge that stands."""
    whole = {segment.path for segment in listing(folder)}
    for segment in _every(folder):
        if segment.path not in whole:
            segment.path.unlink(missing_ok=True)
    for draft in folder.glob(".*.tmp"):
        if _age(draft) > _STALE_SECONDS:
            draft.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process merges in this folder while the block lasts."""
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
