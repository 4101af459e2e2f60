"""No call of a graph without end: what takes far longer than it may is broken off, wherever it hangs."""

import threading
import time

import onnxruntime

_GRACE_SECONDS = 5.0
_SECONDS_PER_TOKEN = 0.1  # slower than this, no version stays live
_LOOK_SECONDS = 0.5

_ends: dict[onnxruntime.RunOptions, float] = {}
_starting = threading.Lock()
_watch: threading.Thread | None = None


class Limit:
    """The options of one call that reads so many tokens; a context manager around it. ONNX Runtime looks at them
    between any two nodes, inside loops too, and gives up with an error."""

    __slots__ = ("_options", "_tokens")

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def __enter__(self) -> onnxruntime.RunOptions:
        self._options = onnxruntime.RunOptions()
        _ends[self._options] = time.monotonic() + _GRACE_SECONDS + _SECONDS_PER_TOKEN * self._tokens
        if _watch is None or not _watch.is_alive():  # none yet, or none in this fork
            _begin()
        return self._options

    @property
    def is_over(self) -> bool:
        """Whether the call was broken off."""
        return bool(self._options.terminate)

    def __exit__(self, *_: object) -> None:
        del _ends[self._options]


def _begin() -> None:
    global _watch
    with _starting:
        if _watch is None or not _watch.is_alive():
            _watch = threading.Thread(target=_look, name="time-limit", daemon=True)
            _watch.start()


def _look() -> None:
    while True:
        time.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        for options, end in list(_ends.items()):
            if now > end:
                options.terminate = True
