"""What new songs bring that a corpus did not have: pure, from texts to a few numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lyrics_lm.corpus.near_duplicates import near_pairs

_SHOWN = 20


@dataclass(frozen=True)
class Novelty:
    """`near_duplicates`: songs that resemble one of the corpus. `unknown`: characters it never used, most frequent
    first. `distance`: how far the words lie from the corpus's, from 0 (used alike) to 1 (none in common)."""

    near_duplicates: int
    unknown: str
    distance: float


def novelty(known: Sequence[str], fresh: Sequence[str], near_duplicate: float) -> Novelty:
    """Of fresh songs against the known ones; `near_duplicate` is the similarity that counts as one."""
    pairs = near_pairs([*known, *fresh], near_duplicate)
    resembling = pairs[(pairs[:, 0] < len(known)) & (pairs[:, 1] >= len(known)), 1]
    characters = set().union(*map(set, known)) if known else set()
    unknown = Counter(character for text in fresh for character in text if character not in characters)
    shown = "".join(character for character, _ in unknown.most_common(_SHOWN))
    return Novelty(len(np.unique(resembling)), shown, _distance(_words(known), _words(fresh)))


def _words(texts: Sequence[str]) -> Counter[str]:
    return Counter(word for text in texts for word in text.lower().split())


def _distance(one: Counter[str], other: Counter[str]) -> float:
    """The Jensen-Shannon divergence of the two word distributions, in bits (Lin, "Divergence Measures Based on the
    Shannon Entropy", 1991)."""
    if not one or not other:
        return 0.0
    words = sorted(one.keys() | other.keys())
    p, q = (np.array([counts[word] for word in words]) / sum(counts.values()) for counts in (one, other))
    return max(0.0, _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2)


def _entropy(p: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    some = p[p > 0]
    return float(-(some * np.log2(some)).sum())
