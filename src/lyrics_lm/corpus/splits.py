"""Which song is for training, which for validation, which for the frozen test: by content, never by place.

A song that resembles an earlier one goes where that one is, so covers, reprints and live versions stay
together. Any other song goes by a hash of its own text. Both look only at the song and at what came
before it, so songs added at the end never move an old one and the test songs stay the same for as long
as the corpus grows. (Groups closed over all similar songs would not do: a new song that resembles two
old ones would join their groups, and one of them would have to move.) A song that resembles earlier
songs of several splits would leak wherever it was put: it is excluded.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lyrics_lm.corpus.near_duplicates import near_pairs

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")
EXCLUDED = "excluded"

_HELD_OUT_SHARE = 0.05  # of all songs, for validation and for test each


@dataclass(frozen=True)
class Assignment:
    """`splits[i]` is the split of song i or `excluded`; `duplicates` counts songs like an earlier one."""

    splits: tuple[str, ...]
    duplicates: int


def assign(texts: Sequence[str], near_duplicate: float) -> Assignment:
    """The split of each song, from the texts in order of arrival; `near_duplicate` is the similarity
    from which two songs count as one."""
    keys = [text.lower() for text in texts]
    distinct = list(dict.fromkeys(keys))
    earlier: dict[int, list[int]] = {}
    for first, second in near_pairs(distinct, near_duplicate).tolist():
        earlier.setdefault(second, []).append(first)
    chosen: list[str] = []
    for place, key in enumerate(distinct):
        followed = {chosen[other] for other in earlier.get(place, ())} - {EXCLUDED}
        chosen.append(_follow(followed, key))
    split_of = dict(zip(distinct, chosen, strict=True))
    return Assignment(tuple(split_of[key] for key in keys), len(keys) - len(distinct) + len(earlier))


def _follow(followed: set[str], key: str) -> str:
    if len(followed) > 1:
        return EXCLUDED
    return next(iter(followed), None) or _by_hash(key)


def _by_hash(key: str) -> str:
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if share < _HELD_OUT_SHARE:
        return TEST
    return VALIDATION if share < 2 * _HELD_OUT_SHARE else TRAIN
