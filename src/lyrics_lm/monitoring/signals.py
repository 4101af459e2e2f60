"""What is watched of a prompt: numbers that a traffic record holds even where no text is kept."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lyrics_lm.monitoring.detector import Rows
from lyrics_lm.monitoring.words import BUCKETS
from lyrics_lm.records import TrafficRecord

SIGNALS = ("bits per character", "unknown characters", "length", "words")
MEANING = {
    "bits per character": "what the live model makes of a prompt",
    "unknown characters": "share of a prompt that the model has no token for",
    "length": "characters of a prompt",
    "words": "bits per word, by how often the reference uses it",
}
_LEARNT = 0.4  # share of the reference from which words are counted; the rest says what is usual

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What prompts were like: `rows` of signals, None where one tells nothing, and `words`, how many prompts of
    the first part used a bucket.

    The word signal of that first part is left out of `rows`: words are less strange to those they were
    counted from, so only the rest is exchangeable with what comes later.
    """

    rows: tuple[tuple[float | None, ...], ...]
    words: dict[int, int]
    learnt: int

    @property
    def array(self) -> Rows:
        return np.array(self.rows, dtype=np.float64).reshape(-1, len(SIGNALS))


def reference(records: Sequence[TrafficRecord]) -> Reference:
    """The reference that these records make, in the order in which they came."""
    learnt = int(_LEARNT * len(records))
    counts = Counter(bucket for record in records[:learnt] for bucket in set(record.prompt_words))
    bare = Reference((), dict(counts), learnt)
    rows = [signals(record, bare) for record in records]
    for row in rows[:learnt]:
        row[SIGNALS.index("words")] = math.nan
    return Reference(tuple(tuple(_told(value) for value in row) for row in rows), bare.words, learnt)


def signals(record: TrafficRecord, known: Reference) -> Numbers:
    """The signals of one record (signals); NaN where it is too short to tell."""
    bits = record.prompt_bits_per_char
    values = (
        math.nan if bits is None or not math.isfinite(bits) else bits,
        record.unknown_share if record.prompt_chars else math.nan,
        record.prompt_chars,
        _surprise(record.prompt_words, known),
    )
    return np.array(values, dtype=np.float64)


def _surprise(words: Sequence[int], known: Reference) -> float:
    """Mean of -log2 p over the words, add-one smoothed."""
    if not words:
        return math.nan
    total = math.log2(sum(known.words.values()) + BUCKETS)
    return total - sum(math.log2(known.words.get(word, 0) + 1) for word in words) / len(words)


def _told(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
