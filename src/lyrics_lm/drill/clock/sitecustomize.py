"""A wall clock that jumps: every Python process started with this folder on its path shifts `time.time` by the
seconds that a file holds. Stands alone; Python imports it by its name."""

import os
import time

_FILE = os.environ.get("LYRICS_LM_DRILL_CLOCK", "")
_true, _true_ns = time.time, time.time_ns


def _shift() -> float:
    try:
        with open(_FILE, encoding="ascii") as file:
            return float(file.read() or 0)
    except OSError:
        return 0.0


if _FILE:
    time.time = lambda: _true() + _shift()
    time.time_ns = lambda: _true_ns() + int(_shift() * 1e9)
