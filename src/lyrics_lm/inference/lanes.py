"""Sequences that go on side by side, a token each at a time, in one batch. Knows ids and logits; no text, no chance.

What a sequence gets does not depend on its neighbours, to the last bit: prompts are read in chunks of one
fixed width, and the kernels that ONNX Runtime has for these sizes treat each row alike in any company.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lyrics_lm.inference.engine import Engine, FloatArray, IntArray, State

CHUNK = 32  # tokens of a prompt that are read at once
_LARGEST_TABLE = 4096  # tokens: 64 MB of logits


@dataclass
class Reading:
    """A text (T) on its way into a batch, with what is known of the part that was read."""

    tokens: IntArray
    position: int = 0
    tensors: tuple[npt.NDArray[np.generic], ...] = ()
    history: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def left(self) -> int:
        return len(self.tokens) - self.position

    def take(self) -> IntArray:
        """The next chunk; the position moves behind it."""
        chunk = self.tokens[self.position : self.position + CHUNK]
        self.position += len(chunk)
        return chunk


class Lanes(Protocol):
    """A batch of B sequences in rows 0 to B - 1."""

    def read(self, readings: Sequence[Reading]) -> list[FloatArray]:
        """Read a chunk of each; logits (t_i, V) after each of its t_i tokens."""

    def join(self, reading: Reading) -> None:
        """Take in a text that was read to its end, as row B."""

    def leave(self, row: int) -> None:
        """Drop a row; row B - 1 takes its place."""

    def step(self, tokens: IntArray) -> FloatArray:
        """One more token (B) of each; logits (B, V), which hold until the next call."""


def lanes(engine: Engine) -> "StateLanes | TableLanes | WindowLanes":
    """An empty batch, in the form that is fastest for the graph of `engine`."""
    if engine.state:
        return StateLanes(engine)
    if engine.context == 1 and engine.vocab_size <= _LARGEST_TABLE:
        return TableLanes(engine)
    return WindowLanes(engine)


class StateLanes:
    """For graphs with a state: one array for each of its tensors, a row for each sequence and some to spare.

    A graph that is `in_place` writes the next state over the state, in arrays that are bound to it once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._count = 0
        self._tensors = engine.start(0).tensors
        self._resize(1)

    def read(self, readings: Sequence[Reading]) -> list[FloatArray]:
        rows = _rounded(len(readings))
        tokens, lengths = np.zeros((rows, CHUNK), dtype=np.int64), np.ones(rows, dtype=np.int64)
        tensors = self._engine.start(rows).tensors
        for row, reading in enumerate(readings):
            for tensor, past in zip(tensors, reading.tensors, strict=False):  # none before the first chunk
                tensor[row] = past
            chunk = reading.take()
            tokens[row, : len(chunk)], lengths[row] = chunk, len(chunk)
        logits, *following = self._engine.call(tokens, lengths, tensors)
        for row, reading in enumerate(readings):
            reading.tensors = tuple(tensor[row] for tensor in following)
        return [logits[row, : lengths[row]] for row in range(len(readings))]

    def join(self, reading: Reading) -> None:
        if self._count == len(self._tokens):
            self._resize(_rounded(self._count + 1))
        for tensor, past in zip(self._tensors, reading.tensors, strict=True):
            tensor[self._count] = past
        self._count += 1

    def leave(self, row: int) -> None:
        self._count -= 1
        for tensor in self._tensors:
            tensor[row] = tensor[self._count]
        if len(self._tokens) - self._count >= 2 * _group(self._count):
            self._resize(_rounded(self._count))

    def step(self, tokens: IntArray) -> FloatArray:
        self._tokens[: self._count, 0] = tokens
        if self._run:
            self._run()
        else:
            self._logits, *following = self._engine.call(self._tokens, self._lengths, self._tensors)
            self._tensors = tuple(following)
        return self._logits[: self._count, 0]

    def _resize(self, rows: int) -> None:
        """Arrays for that many rows, with the sequences at hand in them."""
        before, self._tensors = self._tensors, self._engine.start(rows).tensors
        for tensor, old in zip(self._tensors, before, strict=True):
            tensor[: self._count] = old[: self._count]
        self._tokens, self._lengths = np.zeros((rows, 1), dtype=np.int64), np.ones(rows, dtype=np.int64)
        self._logits = np.zeros((rows, 1, self._engine.vocab_size), dtype=np.float32)
        self._run: Callable[[], None] | None = None
        if self._engine.in_place:
            self._run = self._engine.bind(self._tokens, self._lengths, self._tensors, self._logits)


class TableLanes:
    """For graphs that look at one token and nothing before it: all they can say is one table (V, V),
    asked for once, and a step is a row of it."""

    def __init__(self, engine: Engine) -> None:
        every = np.arange(engine.vocab_size, dtype=np.int64)
        self.table, _ = engine.advance(list(every[:, None]), engine.start(engine.vocab_size))

    def read(self, readings: Sequence[Reading]) -> list[FloatArray]:
        return [self.table[reading.take()] for reading in readings]

    def join(self, reading: Reading) -> None:
        """There is nothing to keep."""

    def leave(self, row: int) -> None:
        """There is nothing to drop."""

    def step(self, tokens: IntArray) -> FloatArray:
        return self.table[tokens]


class WindowLanes:
    """For graphs without a state: they are shown the last `context` tokens of each row at every step."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._histories: list[IntArray] = []

    def read(self, readings: Sequence[Reading]) -> list[FloatArray]:
        every = []
        for reading in readings:  # one by one: the widths of their windows differ
            [logits], state = self._engine.advance_all([reading.take()], State((), (reading.history,)))
            [reading.history] = state.history
            every.append(logits)
        return every

    def join(self, reading: Reading) -> None:
        self._histories.append(reading.history)

    def leave(self, row: int) -> None:
        last = self._histories.pop()
        if row < len(self._histories):
            self._histories[row] = last

    def step(self, tokens: IntArray) -> FloatArray:
        width = self._engine.context
        windows = np.zeros((_rounded(len(tokens)), width), dtype=np.int64)
        lengths = np.ones(len(windows), dtype=np.int64)
        for row, token in enumerate(tokens):
            self._histories[row] = np.append(self._histories[row], token)[-width:]
            lengths[row] = len(self._histories[row])
            windows[row, : lengths[row]] = self._histories[row]
        logits, *_ = self._engine.call(windows, lengths, ())
        return logits[np.arange(len(tokens)), lengths[: len(tokens)] - 1]


def _group(rows: int) -> int:
    """By so many rows a batch of that size grows and shrinks: most sequences join without moving the others,
    and few rows run empty."""
    return 1 if rows < 2 else max(4, 2 ** (rows.bit_length() - 3))


def _rounded(rows: int) -> int:
    """Whole groups of rows that hold so many sequences."""
    group = _group(rows)
    return max(1, -(-rows // group) * group)
