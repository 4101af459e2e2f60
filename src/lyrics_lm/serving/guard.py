"""Texts stop before they repeat a training song at length. Knows no request and no model."""

from collections.abc import Callable

from lyrics_lm.corpus.verbatim import LEAST, Verbatim

STOPPED = "content_filter"  # OpenAI's word for it, as a `finish_reason`


class Guard:
    """No text gets to `limit` characters in a row of one song, as `index` has the songs; where it gives None, or the
    limit is 0, nothing is stopped."""

    def __init__(self, index: Callable[[], Verbatim | None], limit: int) -> None:
        self._index = index
        self._limit = limit

    def watch(self) -> "Watch":
        """The guard over one text, from its first character."""
        return Watch(self._index, self._limit)


class Watch:
    """Looks a text up only when it may have come near the limit. A run that the index does not find is shorter than
    `LEAST`, so after each look some characters are free: 19 in a text that copies nothing, where the limit is 50."""

    def __init__(self, index: Callable[[], Verbatim | None], limit: int) -> None:
        self._index = index
        self._limit = limit
        self._tail = ""
        self._free = limit - 1

    def allowed(self, new: str) -> int:
        """How many of these characters may follow those that were allowed before."""
        if self._limit == 0:
            return len(new)
        tail = self._tail + new
        self._tail, self._free = tail[-(self._limit - 1) :], self._free - len(new)
        index = self._index() if self._free < 0 else None
        if index is None:
            return len(new)
        passages = index.passages(tail)
        reached = [one.start + self._limit - 1 for one in passages if one.end - one.start >= self._limit]
        if reached:
            return len(new) - (len(tail) - min(reached))
        running = max((one.end - one.start for one in passages if one.end == len(tail)), default=0)
        self._free = self._limit - 1 - max(LEAST - 1, running)
        return len(new)
