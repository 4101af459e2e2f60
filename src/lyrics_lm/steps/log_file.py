"""The log of a supervised process: bounded, and silent where the disk is full."""

import contextlib
from pathlib import Path
from typing import Any

from circus.stream import FileStream

_BYTES = 5_000_000  # of a log, and as many of the one before it


class LogFile(FileStream):  # type: ignore[misc]  # circus has no types
    """Takes what a process says on either of its outputs; what finds no room on the disk is not kept."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(str(path), max_bytes=_BYTES, backup_count=1)

    def __call__(self, data: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            super().__call__(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what was still to be written
            super().close()
