"""The n-gram: the honest baseline, counted in seconds, that a trained model must beat clearly. Needs no torch.

It is measured beside every model and never served: its tables are looked up by search, for which ONNX has no
operator, and a graph that imitates one would be larger and slower than the transformer that it is there to judge.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.float64]

ORDER = 5
_KEYS = 2**63  # so many different n-grams can be told apart


@dataclass(frozen=True)
class _Level:
    """All n-grams of one length, by key, and the histories they share: how often, and with how many tokens."""

    grams: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    histories: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]
    types: npt.NDArray[np.int64]


class Ngram:
    """Interpolated n-grams of tokens with Witten-Bell smoothing (Witten and Bell, "The zero-frequency problem",
    1991, method C; Chen and Goodman, "An empirical study of smoothing techniques", 1999, section 2.4):
    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)), where t(h) counts the different tokens seen after h,
    and h' is h without its first token; below one token, all are equally likely.
    """

    def __init__(self, tokens: Tokens, vocab_size: int, order: int = ORDER) -> None:
        """Count a text (N). The order is lowered where the vocabulary is too large for it."""
        self._vocab_size = vocab_size
        self.order = next(n for n in range(order, 0, -1) if vocab_size**n < _KEYS)
        self._levels = [self._count(tokens, length) for length in range(1, self.order + 1)]

    def log_probabilities(self, tokens: Tokens) -> FloatArray:
        """ln p (T - 1) of each token after the first, given up to `order` - 1 before it."""
        chances = np.full(len(tokens) - 1, 1 / self._vocab_size)
        for length, level in enumerate(self._levels, start=1):
            first = max(0, length - 2)  # of the positions that have so long a history
            grams = _keys(tokens, length, self._vocab_size)[length == 1 :]
            seen, total, types = self._look_up(level, grams)
            mixed = (seen + types * chances[first:]) / np.maximum(total + types, 1)
            chances[first:] = np.where(total > 0, mixed, chances[first:])
        logarithms: FloatArray = np.log(chances)
        return logarithms

    def _count(self, tokens: Tokens, length: int) -> _Level:
        grams, counts = np.unique(_keys(tokens, length, self._vocab_size), return_counts=True)
        histories, starts = np.unique(grams // self._vocab_size, return_index=True)
        totals = np.add.reduceat(counts, starts) if len(starts) else counts
        return _Level(grams, counts, histories, totals, np.diff(np.append(starts, len(grams))))

    def _look_up(self, level: _Level, grams: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """Of each n-gram: how often it was seen, its history, and how many tokens followed that."""
        seen = _find(level.grams, level.counts, grams)
        histories = grams // self._vocab_size
        return seen, _find(level.histories, level.totals, histories), _find(level.histories, level.types, histories)


def _keys(tokens: Tokens, length: int, vocab_size: int) -> npt.NDArray[np.int64]:
    """One number for each run of `length` tokens: its digits in base V."""
    count = max(0, len(tokens) - length + 1)
    keys = np.zeros(count, dtype=np.int64)
    for place in range(length):
        keys = keys * vocab_size + tokens[place : place + count]
    return keys


def _find(
    keys: npt.NDArray[np.int64], values: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The value of each wanted key; 0 where it is not among the sorted keys."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
