"""Which words people use that the corpus hardly knows: what to look for, where no song at hand can help. Pure."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W\d_]{2,}")


def words(prompts: Sequence[str], songs: Iterable[str], count: int = 10) -> tuple[str, ...]:
    """The words of the prompts most unlike the songs: by how many prompts use one, times the logarithm of how
    much more often that is than songs would have it (as in a G-test)."""
    asked = Counter(word for prompt in prompts for word in set(_words(prompt)))
    known: Counter[str] = Counter()
    for song in songs:
        known.update(word for word in _words(song) if word in asked)
    total_asked, total_known = sum(asked.values()), sum(known.values()) + len(asked)

    def weight(word: str) -> float:
        ratio = (asked[word] / total_asked) / ((known[word] + 1) / total_known)
        return asked[word] * math.log(ratio)

    unlike = [word for word in asked if weight(word) > 0]
    return tuple(sorted(unlike, key=lambda word: (-weight(word), word))[:count])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
