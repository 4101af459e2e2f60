"""The loss of a model on whole songs, every token with its full left context. Knows no file and no gate."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer

from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.inference.engine import Engine, IntArray, State
from lyrics_lm.inference.sampler import DoubleArray, FloatArray, log_softmax
from lyrics_lm.inference.vocabulary import unknown_token
from lyrics_lm.records import EvalReport

# Logits held at once (16 MB in float32), and the songs and tokens of each that are read in one go: with
# 16 x 256 the attention of a small transformer leaves the processor's cache and takes four times as long.
_MAX_LOGITS = 4_000_000
_ROWS = 8
_COLUMNS = 64


# From the tokens of a song break and those of some songs to the nats of each token of each song after a break.
Losses = Callable[[IntArray, Sequence[IntArray]], Sequence[DoubleArray]]


@dataclass(frozen=True)
class Scored:
    """A report, and what it sums: of each song, the nats of its tokens and the characters at which they begin."""

    report: EvalReport
    nats: Sequence[DoubleArray]
    begins: Sequence[IntArray]


def score(
    engine: Engine, tokenizer: Tokenizer, texts: Sequence[str], names: Sequence[str], *, model: str, split: str
) -> Scored:
    """The report of a loaded bundle: `report`, of the losses that its graph gives."""
    return report(functools.partial(graph_losses, engine), tokenizer, texts, names, model=model, split=split)


def report(
    losses: Losses, tokenizer: Tokenizer, texts: Sequence[str], names: Sequence[str], *, model: str, split: str
) -> Scored:
    """Losses of `texts`, song by song: nats(song) = -sum_i ln p(x_i | break, x_1 .. x_{i-1}).

    Each song follows a song break, so its first token is scored like any other. The log-softmax and the
    sums are in float64 (perplexity is then exp(nats / tokens): Jurafsky and Martin, "Speech and Language
    Processing", 3rd ed., section 3.3). Characters are those of the text as given, so that bits per
    character compare across tokenizers. Raises `ValueError` when texts and names differ in number.
    """
    encodings = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    songs = [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
    opening = np.array(tokenizer.encode(SONG_BREAK, add_special_tokens=False).ids, dtype=np.int64)
    untold = [_untold(tokenizer, text, encoding) for text, encoding in zip(texts, encodings, strict=True)]
    nats = losses(opening, songs)
    summed = EvalReport(
        model=model,
        split=split,
        songs=tuple(name for name, _ in zip(names, texts, strict=True)),
        nats=tuple(float(each.sum()) for each in nats),
        tokens=tuple(len(song) for song in songs),
        chars=tuple(len(text) for text in texts),
        unknown=tuple(untold),
    )
    begins = [np.array([begin for begin, _ in encoding.offsets], dtype=np.int64) for encoding in encodings]
    return Scored(summed, nats, begins)


def graph_losses(engine: Engine, opening: IntArray, songs: Sequence[IntArray]) -> list[DoubleArray]:
    """Losses of each song. Where the tokenizer has no tokens for a song break, nothing precedes a song's
    first token, and it costs ln V."""
    alone = [np.log([engine.vocab_size])] if len(opening) == 0 else []
    nats = [np.concatenate([*(alone if len(song) else []), np.empty(0)]) for song in songs]
    rows = [np.concatenate([opening, song]) for song in songs]
    for batch in _batches([len(row) for row in rows], engine.vocab_size):
        found = _batch_losses(engine, [rows[place] for place in batch], max(1, len(opening)))
        for place, losses in zip(batch, found, strict=True):
            nats[place] = np.concatenate([nats[place], losses])
    return nats


def _batches(lengths: Sequence[int], vocab_size: int) -> Iterator[list[int]]:
    """Places of rows to read side by side: of similar length, longest first, those with a token to predict."""
    size = min(_ROWS, max(1, _MAX_LOGITS // (vocab_size * _COLUMNS)))
    order = sorted((place for place, length in enumerate(lengths) if length > 1), key=lambda place: -lengths[place])
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _batch_losses(engine: Engine, rows: Sequence[IntArray], first: int) -> list[DoubleArray]:
    """Losses of the tokens from place `first` on of each row, read in columns that bound the memory."""
    nats: list[list[DoubleArray]] = [[] for _ in rows]
    active, state = list(range(len(rows))), engine.start(len(rows))
    columns = min(_COLUMNS, max(1, _MAX_LOGITS // (len(rows) * engine.vocab_size)))
    for start in range(0, max(len(row) for row in rows) - 1, columns):
        staying = [place for place, row in enumerate(active) if len(rows[row]) - 1 > start]
        active, state = [active[place] for place in staying], _select(state, staying)
        chunk = [rows[row][start : min(start + columns, len(rows[row]) - 1)] for row in active]
        logits, state = engine.advance_all(chunk, state)
        for row, after in zip(active, logits, strict=True):
            losses = _losses(after, rows[row][start + 1 : start + 1 + len(after)])
            nats[row].append(losses[max(0, first - 1 - start) :])
    return [np.concatenate(parts) for parts in nats]


def _losses(logits: FloatArray, targets: IntArray) -> DoubleArray:
    """-ln p (T) of the targets (T) under logits (T, V)."""
    return np.asarray(-log_softmax(logits)[np.arange(len(targets)), targets])


def _select(state: State, places: Sequence[int]) -> State:
    """The state of some rows of a batch."""
    if len(places) == len(state.history):
        return state
    return State(tuple(tensor[places] for tensor in state.tensors), tuple(state.history[place] for place in places))


def _untold(tokenizer: Tokenizer, text: str, encoding: Encoding) -> int:
    """Characters that the tokens do not tell: those under an unknown token, and those dropped.

    One unknown token may stand for a whole word, and a tokenizer may drop line ends or cut a long text
    short: each would make a song cheaper by knowing less of it.
    """
    unknown = unknown_token(tokenizer)
    known = [token for token in encoding.ids if token != unknown]
    hidden = 0
    if len(known) < len(encoding.ids):
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        hidden = sum(max(1, end - start) for token, (start, end) in spans if token == unknown)
    told = len(tokenizer.decode(known, skip_special_tokens=False))
    return hidden + max(0, len(text) - hidden - told)
