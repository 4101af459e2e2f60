"""What the service counts, by version, for Prometheus and the page; sums over all worker processes."""

import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm.inference.scheduler import Load
from lyrics_lm.serving.types import Activity

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from lyrics_lm.serving.completions import Answer

_FIRST_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOKEN_SECONDS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)


class Meter:
    """The service's counters. One per process: Prometheus knows each name once."""

    def __init__(self) -> None:
        # Imported when the service starts: in a worker, BentoML has by then said where processes meet.
        from prometheus_client import Counter, Gauge, Histogram

        of = ["digest"]
        self._requests = Counter("lyrics_lm_requests", "Completions answered or left", [*of, "finish"])
        self._tokens = Counter("lyrics_lm_tokens", "Tokens written", of)
        self._batch = Gauge("lyrics_lm_batch_size", "Texts being written", of, multiprocess_mode="livesum")
        self._queue = Gauge("lyrics_lm_queue_depth", "Texts waiting", of, multiprocess_mode="livesum")
        first, each = "lyrics_lm_time_to_first_token_seconds", "lyrics_lm_time_per_token_seconds"
        self._first = Histogram(first, "From request to first token", of, buckets=_FIRST_TOKEN_SECONDS)
        self._each = Histogram(each, "Of a request, after its first token", of, buckets=_TOKEN_SECONDS)

    def observe(self, digest: str, load: Load) -> None:
        """Note what the scheduler of a version has to do."""
        self._tokens.labels(digest).inc(load.tokens)
        self._batch.labels(digest).set(load.running)
        self._queue.labels(digest).set(load.waiting)

    def answered(self, digest: str, answer: "Answer") -> None:
        """Note a request that has ended, one way or another."""
        self._requests.labels(digest, answer.finish).inc()
        if answer.first_token is not None:
            self._first.labels(digest).observe(answer.first_token - answer.began)
            if answer.tokens > 1:
                self._each.labels(digest).observe((time.time() - answer.first_token) / (answer.tokens - 1))

    def activity(self) -> Activity:
        """Sums over all versions and processes."""
        sums = dict.fromkeys(("lyrics_lm_requests_total", "lyrics_lm_tokens_total", "lyrics_lm_batch_size"), 0.0)
        for family in _registry().collect():
            for sample in family.samples:
                if sample.name in sums:
                    sums[sample.name] += sample.value
        requests, tokens, batch_size = map(int, sums.values())
        return Activity(requests=requests, tokens=tokens, batch_size=batch_size)


def count_in(folder: Path) -> None:
    """Have this worker count in that folder, before it counts anything. What dead workers were busy with is forgotten,
    what they had counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        if not _lives(int(file.stem.rpartition("_")[2])):
            file.unlink(missing_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@functools.cache
def meter() -> Meter:
    """The meter of this process."""
    return Meter()


def _registry() -> "CollectorRegistry":
    """All that is counted: here, or in every worker where there are several."""
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in the library
    return registry
