"""The traffic log: append one record per request served, off the request path, and read them back."""

import hashlib
import hmac
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from lyrics_lm import durable, segments
from lyrics_lm.errors import MachineError
from lyrics_lm.records import TrafficRecord

if TYPE_CHECKING:
    import polars as pl

_PAUSE_SECONDS = 0.5  # between writes: records come together, and none comes a second late
_RETRY_SECONDS = 5.0
_MOST_WAITING = 100_000  # records kept in memory while the disk is full; later ones are dropped
_KEY = ".key"
_COLUMNS = tuple(field.name for field in fields(TrafficRecord))


@dataclass(frozen=True)
class Keeping:
    """What is kept of a request's words (all, a keyed hash that tells only equal from different, or nothing), for
    how many days, and in how many megabytes."""

    store_text: Literal["full", "hash", "none"] = "full"
    keep_days: float = 30.0
    keep_mb: float = 1000.0


class TrafficLog:
    """Writes batches from a thread of its own, at most a second late (see `segments`)."""

    def __init__(self, folder: Path, keeping: Keeping | None = None) -> None:
        self._folder = folder
        self._keeping = keeping or Keeping()
        self._queue: queue.SimpleQueue[TrafficRecord | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._write, name="traffic-log", daemon=True)
        self._thread.start()

    def append(self, record: TrafficRecord) -> None:
        if self._queue.qsize() < _MOST_WAITING:
            self._queue.put(record)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._closed.set()
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        told = _teller(self._folder, self._keeping.store_text)
        self._tidy()
        batches = 0
        while records := self._next():
            self._put(_frame(records, told))
            batches += 1
            if batches % segments.MERGED == 0:
                self._tidy()
            self._closed.wait(_PAUSE_SECONDS)

    def _put(self, batch: "pl.DataFrame") -> None:
        """Write it, however long the disk stays full; at the end, once."""
        while True:
            try:
                return segments.write(self._folder, batch)
            except MachineError:
                if self._closed.wait(_RETRY_SECONDS):
                    return

    def _tidy(self) -> None:
        segments.forget(self._folder, days=self._keeping.keep_days, megabytes=self._keeping.keep_mb)
        try:
            segments.compact(self._folder)
        except MachineError:
            return  # the disk is full: small files do as well

    def _next(self) -> list[TrafficRecord]:
        """All records that wait, at least one; none once the log is closed and all are written."""
        records: list[TrafficRecord] = []
        while (record := self._queue.get()) is not None:
            records.append(record)
            if self._queue.empty():
                return records
        self._queue.put(None)  # to be met again, once these are written
        return records


def read(folder: Path, *, after: float = 0.0, until: float = float("inf")) -> Iterator[TrafficRecord]:
    """The records that came into the log within that time (after, until], in that order."""
    frame = _scan(folder, after)
    if frame is None:
        return
    import polars as pl

    taken = frame.filter((pl.col("written") > after) & (pl.col("written") <= until)).sort(
        "written", maintain_order=True
    )
    for row in taken.iter_rows(named=True):
        yield _record(row)


def find(folder: Path, request: str) -> TrafficRecord | None:
    """The record of one request id (of its first prompt)."""
    import polars as pl

    for segment in reversed(segments.listing(folder)):
        try:
            frame = segments.load(segment)
        except FileNotFoundError:  # merged since, and its successor stands at the same place
            return find(folder, request)
        found = None if frame is None else frame.filter(pl.col("request") == request).head(1)
        if found is not None and len(found):
            return _record(found.row(0, named=True))
    return None


def _scan(folder: Path, after: float) -> "pl.DataFrame | None":
    """All rows of the segments that may hold some written later; listed anew when a merge came in between."""
    import polars as pl

    while True:
        wanted = [one for one in segments.listing(folder) if one.last >= int(after * 1000)]
        try:
            loaded = [frame for frame in map(segments.load, wanted) if frame is not None]
        except FileNotFoundError:
            continue
        return pl.concat(loaded, how="diagonal") if loaded else None


def _frame(records: Sequence[TrafficRecord], told: Callable[[str], str]) -> "pl.DataFrame":
    import polars as pl

    columns: dict[str, list[Any]] = {name: [getattr(record, name) for record in records] for name in _COLUMNS}
    columns["prompt"] = [told(text) for text in columns["prompt"]]
    columns["text"] = [told(text) for text in columns["text"]]
    columns["params"] = [msgspec.json.encode(params).decode() for params in columns["params"]]
    columns["written"] = [time.time()] * len(records)
    kinds: dict[str, Any] = {
        "prompt_words": pl.List(pl.UInt16),
        "prompt_bits_per_char": pl.Float64,
        "unknown_share": pl.Float64,
    }
    return pl.DataFrame(columns, schema_overrides=kinds)


def _record(row: dict[str, Any]) -> TrafficRecord:
    row["params"] = msgspec.json.decode(row["params"])
    row["prompt_words"] = tuple(row["prompt_words"] or ())
    return TrafficRecord(**row)


def _teller(folder: Path, store: str) -> Callable[[str], str]:
    """From a text to what is kept of it."""
    if store == "full":
        return lambda text: text
    if store == "none":
        return lambda text: ""
    file = folder / _KEY
    if not file.is_file():
        import secrets

        durable.write(file, secrets.token_bytes(32))
    key = file.read_bytes()
    return lambda text: hmac.new(key, text.encode(errors="replace"), hashlib.sha256).hexdigest()
