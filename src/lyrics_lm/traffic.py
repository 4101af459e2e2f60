"""The traffic log: append one record per request served, off the request path, and read them back."""

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lyrics_lm import durable
from lyrics_lm.records import TrafficRecord, from_json, to_json

_PAUSE_SECONDS = 0.25  # between writes: records come together, and none comes a second late


class TrafficLog:
    """Appends to one JSON-lines file a day, from a thread of its own, at most a second late.

    A line cut short by a kill is skipped by `read`; all lines before it are whole.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queue: queue.SimpleQueue[TrafficRecord | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._write, name="traffic-log", daemon=True)
        self._thread.start()

    def append(self, record: TrafficRecord) -> None:
        self._queue.put(record)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._closed.set()
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        while records := self._next():
            day = time.strftime("%Y-%m-%d", time.gmtime(records[0].time))
            with durable.room_for(self._folder), open(self._folder / f"{day}.jsonl", "ab") as file:
                file.write(b"".join(to_json(record) + b"\n" for record in records))
            self._closed.wait(_PAUSE_SECONDS)

    def _next(self) -> list[TrafficRecord]:
        """All records that wait, at least one; none once the log is closed and all are written."""
        first = self._queue.get()
        records = []
        while first is not None:
            records.append(first)
            first = None if self._queue.empty() else self._queue.get()
        return records


def read(folder: Path) -> Iterator[TrafficRecord]:
    """All records, oldest file first; a torn last line is left out."""
    for file in sorted(folder.glob("*.jsonl")):
        with open(file, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    try:
                        yield from_json(line, TrafficRecord)
                    except msgspec.DecodeError:
                        continue  # two halves joined where a killed writer's successor went on


def find(folder: Path, request: str) -> TrafficRecord | None:
    """The record of one request id."""
    return next((record for record in read(folder) if record.request == request), None)
