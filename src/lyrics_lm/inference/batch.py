"""The running batch: streams come and go at any step, prompts are read beside those that are written.

Knows neither threads nor requests; whoever owns it calls `turn` while there is work.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from lyrics_lm.inference.engine import Engine, FloatArray
from lyrics_lm.inference.lanes import Reading, TableLanes, lanes
from lyrics_lm.inference.sampler import Draw, cumulative, sample
from lyrics_lm.inference.stream import Sampling, Stream

_READERS = 8  # prompts read at once: a chunk of each costs running streams a few steps, never more
_STRIDE = 64  # tokens that a table writes in one turn
_LARGEST_WALK = 512  # tokens: beyond, a table as lists takes more memory than it saves time


class Batch:
    """Streams over one engine. `forbidden` is a token that is never drawn."""

    def __init__(self, engine: Engine, forbidden: int | None) -> None:
        self._forbidden = forbidden
        self._lanes = lanes(engine)
        walks = isinstance(self._lanes, TableLanes) and engine.vocab_size <= _LARGEST_WALK
        self._walks = _Walks(self._lanes.table, forbidden) if walks else None  # type: ignore[union-attr]
        self._reading: list[tuple[Stream, Reading]] = []
        self._running: list[Stream] = []
        self.written = 0  # tokens drawn, in all
        self._logits = np.empty((0, engine.vocab_size), dtype=np.float32)
        self._draw: Draw | None = None

    def __len__(self) -> int:
        return len(self._reading) + len(self._running)

    def add(self, stream: Stream) -> None:
        self._reading.append((stream, Reading(stream.prompt)))

    @property
    def written_to(self) -> Sequence[Stream]:
        """The streams that each turn adds to."""
        return self._running

    def turn(self) -> list[Stream]:
        """Read a chunk of some prompts, then write on in every stream; returns those that began or ended."""
        urgent = self._read()
        if self._running:
            urgent += self._write()
        return urgent

    def abandon(self, error: Exception) -> list[Stream]:
        """End all streams with that error; returns them. The batch is not to be used again."""
        every = [stream for stream, _ in self._reading] + self._running
        for stream in every:
            stream.fail(error)
        self._reading, self._running = [], []
        return every

    def _read(self) -> list[Stream]:
        self._reading = [(stream, reading) for stream, reading in self._reading if not stream.cancelled]
        now, later = self._reading[:_READERS], self._reading[_READERS:]
        if not now:
            return []
        done: list[Stream] = []
        unread = []
        fresh = []
        for (stream, reading), logits in zip(now, self._lanes.read([reading for _, reading in now]), strict=True):
            stream.read(logits)
            if reading.left:
                unread.append((stream, reading))
            elif not stream.ended:
                self._lanes.join(reading)
                self._running.append(stream)
                fresh.append(logits[-1:])
            if stream.ended:
                done.append(stream)
        self._reading = later + unread  # who was read makes room for who was not
        if fresh:
            self._logits, self._draw = np.concatenate([self._logits, *fresh]), None
        return done

    def _write(self) -> list[Stream]:
        streams = self._running
        drawn = [self._walks.walk(stream) for stream in streams] if self._walks else self._sample()
        self.written += sum(map(len, drawn))
        urgent = []
        for row, (stream, tokens) in enumerate(zip(streams, drawn, strict=True)):
            if stream.feed(tokens, self._logits[row] if stream.is_scored else None):
                urgent.append(stream)
        self._drop_ended()
        if self._running:
            self._logits = self._lanes.step(np.array([stream.last for stream in self._running], dtype=np.int64))
        else:
            self._logits = self._logits[:0]
        return urgent

    def _sample(self) -> list[tuple[int]]:
        if self._draw is None:
            how = [stream.sampling for stream in self._running]
            settings = ([one.temperature for one in how], [one.top_p for one in how], [one.top_k for one in how])
            self._draw = Draw.of(*settings, self._forbidden)
        uniforms = np.array([stream.uniform() for stream in self._running])
        return list(zip(sample(self._logits, uniforms, self._draw).tolist()))

    def _drop_ended(self) -> None:
        for row in reversed(range(len(self._running))):
            stream = self._running[row]
            if stream.finish or stream.cancelled:
                self._lanes.leave(row)
                last = self._running.pop()
                if row < len(self._running):
                    self._running[row] = last
                self._draw = None


class _Walks:
    """Many tokens of a table at a time: the same draws as `sample` makes, looked up by bisection."""

    _KEPT = 8

    def __init__(self, table: FloatArray, forbidden: int | None) -> None:
        self._table = table
        self._forbidden = forbidden
        self._rows: OrderedDict[tuple[float, float, int], list[list[float]]] = OrderedDict()

    def walk(self, stream: Stream) -> Sequence[int]:
        """The next tokens of a stream: one where each is scored, as many as a turn may take elsewhere."""
        rows, token, uniform = self._sums(stream.sampling), stream.last, stream.uniform
        tokens = []
        for _ in range(1 if stream.is_scored else min(_STRIDE, stream.sampling.max_tokens - stream.tokens)):
            row = rows[token]
            token = bisect_right(row, uniform() * row[-1])
            tokens.append(token)
        return tokens

    def _sums(self, how: Sampling) -> list[list[float]]:
        key = (how.temperature, how.top_p, how.top_k)
        if key not in self._rows:
            size = len(self._table)
            draw = Draw.of([how.temperature] * size, [how.top_p] * size, [how.top_k] * size, self._forbidden)
            self._rows[key] = cumulative(self._table, draw).tolist()
            if len(self._rows) > self._KEPT:
                self._rows.popitem(last=False)
        return self._rows[key]
