"""The contract's rules, each tried on one bundle: what it observed, or how it is broken and mended."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from lyrics_lm import bundle
from lyrics_lm.bundle import Bundle
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.inference.engine import Engine, FloatArray, IntArray
from lyrics_lm.inference.sampler import Draw, random_stream, sample
from lyrics_lm.inference.vocabulary import load_tokenizer, unknown_token
from lyrics_lm.records import StateSpec

DoubleArray = npt.NDArray[np.float64]

_TOLERANCE = 1e-4
_SEED = 1
_GENERATED = 200
_LENGTHS = (7, 1, 12, 4)
_MAX_STATE = 2**28  # numbers per sequence: a gigabyte in float32
_STATE_TYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
_RESERVED = ("tokens", "lengths", "logits")
_STRANGER = "\N{FOX FACE}"
_TEXTS = (
    "love is all i know",
    "one line\nanother line\n\na verse, after a blank one",
    '  Two  spaces, CAPITALS; it\'s "quoted" (twice)! ',
    "caf\u00e9 \N{SNOWMAN} na\u00efve \u4f60\u597d " + _STRANGER,
)


class Broken(Exception):
    """A rule does not hold: what was seen, and the remedy."""

    def __init__(self, observed: str, remedy: str) -> None:
        super().__init__(f"{observed}; {remedy}")
        self.observed = observed
        self.remedy = remedy


class Trial:
    """The bundle under test, as far as the rules have opened it."""

    engine: Engine
    tokenizer: Tokenizer

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bundle: Bundle | None = None
        self.load_seconds = 0.0

    @property
    def opened(self) -> Bundle:
        assert self.bundle is not None  # the first rule ends the suite otherwise
        return self.bundle

    def encode(self, text: str) -> list[int]:
        """Token ids; the library raises plain `Exception` for a character without a token."""
        try:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:
            raise Broken(
                f"the tokenizer fails on {text!r}: {error}", "give its model an unk_token that is in the vocabulary"
            ) from error
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def random_tokens(self, count: int, stream: int) -> IntArray:
        return random_stream(_SEED, stream).integers(self.engine.vocab_size, size=count, dtype=np.int64)


@dataclass(frozen=True)
class Rule:
    """`test` returns what it observed, or raises; `needed` rules make the later ones possible."""

    name: str
    test: Callable[[Trial], str]
    needed: bool = False


def _files(trial: Trial) -> str:
    trial.bundle = bundle.read(trial.directory)
    return f"{len(trial.bundle.manifest.files)} files match their digests, {trial.bundle.size / 1e6:.2f} MB"


def _manifest(trial: Trial) -> str:
    manifest = trial.opened.manifest
    for field, value in (("vocab_size", manifest.vocab_size), ("context", manifest.context)):
        if value < 1:
            raise Broken(f"{bundle.CONTRACT} has {field} {value}", f"write the model's {field}, at least 1")
    for spec in manifest.state:
        _require_sound(spec)
    names = [*_RESERVED, *(spec.name for spec in manifest.state)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Broken(f"{bundle.CONTRACT} names the state {twice[0]!r} twice", "give each tensor a name of its own")
    outside = [token for token in manifest.known_answer.tokens if not 0 <= token < manifest.vocab_size]
    if outside or not manifest.known_answer.tokens:
        what = f"token {outside[0]} outside the vocabulary of {manifest.vocab_size}" if outside else "no tokens"
        raise Broken(f"the known answer in {bundle.CONTRACT} has {what}", "write a few token ids and their logits")
    return f"{manifest.name} ({manifest.architecture}), context {manifest.context}, {len(manifest.state)} state tensors"


def _require_sound(spec: StateSpec) -> None:
    if spec.dtype not in _STATE_TYPES:
        raise Broken(f"state {spec.name} has dtype {spec.dtype!r}", f"use one of {', '.join(_STATE_TYPES)}")
    numbers = int(np.prod(np.array(spec.shape, dtype=object)))
    if any(size < 0 for size in spec.shape) or numbers > _MAX_STATE:
        raise Broken(
            f"state {spec.name} has shape {list(spec.shape)}",
            f"write its sizes for one sequence, without the batch axis, at most {_MAX_STATE} numbers",
        )


def _model(trial: Trial) -> str:
    started = time.perf_counter()
    trial.engine = Engine(trial.opened)
    trial.load_seconds = time.perf_counter() - started
    return f"{bundle.MODEL} loads on CPU in {trial.load_seconds:.2f} s with the contract's inputs and outputs"


def _vocabulary(trial: Trial) -> str:
    """The manifest's size, the tokenizer's and the last axis of the logits are one number."""
    trial.tokenizer = load_tokenizer(trial.opened)
    manifest = trial.opened.manifest
    tokenizer_size = trial.tokenizer.get_vocab_size(with_added_tokens=True)
    if tokenizer_size != manifest.vocab_size:
        raise Broken(
            f"{bundle.TOKENIZER} has {tokenizer_size} tokens, {bundle.CONTRACT} says vocab_size {manifest.vocab_size}",
            "export the tokenizer and the vocab_size that the model was trained with",
        )
    rows = [np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int64)]
    logits, *following = trial.engine.run(rows, trial.engine.start(2).tensors)
    _require_output("logits", logits, (2, 3, manifest.vocab_size), "float32")
    for spec, tensor in zip(manifest.state, following, strict=True):
        _require_output(f"the next {spec.name}", tensor, (2, *spec.shape), spec.dtype)
    return f"{manifest.vocab_size} tokens in the manifest, the tokenizer and the logits"


def _require_output(name: str, tensor: FloatArray, shape: tuple[int, ...], dtype: str) -> None:
    if tensor.shape != shape or tensor.dtype != dtype:
        raise Broken(
            f"for 2 rows of 3 and 2 tokens {name} is {tensor.dtype} {list(tensor.shape)}",
            f"export a graph that gives {dtype} {list(shape)} there",
        )


def _known(trial: Trial) -> str:
    known = trial.opened.manifest.known_answer
    rows, _ = trial.engine.advance_all([np.array(known.tokens, dtype=np.int64)], trial.engine.start())
    try:
        expected = np.array(known.logits, dtype=np.float64)
    except ValueError as error:
        raise Broken("the known answer has rows of different lengths", "write (V) or (T, V) logits") from error
    actual = rows[0] if expected.ndim == 2 else rows[0][-1]
    if expected.shape != actual.shape:
        raise Broken(
            f"the known answer has logits {list(expected.shape)}, the model gives {list(actual.shape)}",
            "write (V) logits after the last token, or (T, V) after each",
        )
    difference = _distance(actual, expected)
    if not difference <= _TOLERANCE:
        raise Broken(
            f"the model's logits differ from the known answer by {difference:.2g}, over {_TOLERANCE:g}",
            "write the known answer with the exported model.onnx itself, or export that model again",
        )
    return f"within {difference:.1g} of the known answer"


def _tokenizer(trial: Trial) -> str:
    """encode(decode(x)) = x on what the tokenizer knows of some texts; a stranger becomes a token."""
    unknown = unknown_token(trial.tokenizer)
    if trial.tokenizer.truncation or trial.tokenizer.padding:
        raise Broken("the tokenizer cuts or pads texts", "call no_truncation() and no_padding() before saving it")
    if not trial.encode(_STRANGER):
        raise Broken(
            f"the tokenizer drops the character {_STRANGER!r}",
            "give its model an unk_token, or bytes to fall back on",
        )
    told = [trial.encode(text) for text in _TEXTS] + [list(trial.opened.manifest.known_answer.tokens)]
    for ids in told:
        text = trial.decode([token for token in ids if token != unknown])
        once = trial.encode(text)
        again = trial.encode(trial.decode(once))
        if again != once:
            raise Broken(
                f"the tokens of {text!r} decode to {trial.decode(once)!r}, which has other tokens",
                "set the decoder that undoes the pre-tokenizer (Fuse for characters, ByteLevel for bytes)",
            )
    return f"{len(told)} texts round-trip, unknown characters become tokens"


def _batch(trial: Trial) -> str:
    """Rows of mixed lengths, padded, from a fresh state and from the one that follows: as each row alone."""
    engine = trial.engine
    longest = max(_LENGTHS) if trial.opened.manifest.state else engine.context
    rows = [trial.random_tokens(min(length, longest), place) for place, length in enumerate(_LENGTHS)]
    together = _read_twice(engine, rows)
    alone = [_read_twice(engine, [row])[0] for row in rows]
    difference = float(np.max([_distance(*pair) for pair in zip(together, alone, strict=True)]))
    if not difference <= _TOLERANCE:
        raise Broken(
            f"rows of {', '.join(str(len(row)) for row in rows)} tokens in one batch differ from each alone by "
            f"{difference:.2g}, over {_TOLERANCE:g}",
            "mask the padding after lengths[b] tokens of row b, also in the next state",
        )
    return f"a batch of mixed lengths is within {difference:.1g} of one by one"


def _read_twice(engine: Engine, rows: Sequence[IntArray]) -> list[FloatArray]:
    """Logits (2 T_i, V) of each row, read once, and once more in reverse order from the state that leaves."""
    first, *state = engine.run(rows, engine.start(len(rows)).tensors)
    second, *_ = engine.run([row[::-1] for row in rows], tuple(state))
    return [np.concatenate([first[place, : len(row)], second[place, : len(row)]]) for place, row in enumerate(rows)]


def _steps(trial: Trial) -> str:
    """A text read at once gives what it gives token by token; a graph that looks ahead does not."""
    engine = trial.engine
    length = min(engine.context + 8, 300) if trial.opened.manifest.state else min(engine.context, 32)
    tokens = trial.random_tokens(length, 100)
    at_once, _ = engine.advance_all([tokens], engine.start())
    state, difference = engine.start(), 0.0
    for place, token in enumerate(tokens):
        logits, state = engine.advance([np.array([token])], state)
        difference = float(np.maximum(difference, _distance(logits[0], at_once[0][place])))
        if not difference <= _TOLERANCE:
            raise Broken(
                f"after token {place + 1} of {length}, reading at once and token by token differ by {difference:.2g}",
                "let a position see only tokens before it, and at most what the state keeps",
            )
    return f"{length} tokens at once are within {difference:.1g} of one by one"


def _generation(trial: Trial) -> str:
    engine, randomness = trial.engine, random_stream(_SEED)
    prompt = trial.encode(SONG_BREAK) or list(trial.opened.manifest.known_answer.tokens)
    logits, state = engine.advance([np.array(prompt, dtype=np.int64)], engine.start())
    drawn: list[int] = []
    plainly = Draw.of([1.0], [1.0], [0], None)
    for _ in range(_GENERATED):
        if not np.isfinite(logits).all():
            raise Broken(
                f"logits after {len(drawn)} generated tokens are not finite", "train or export the model again"
            )
        drawn.append(int(sample(logits, randomness.random(1), plainly)[0]))
        if trial.tokenizer.id_to_token(drawn[-1]) is None:
            raise Broken(f"the tokenizer has no token {drawn[-1]}", "number its tokens 0 to vocab_size - 1")
        logits, state = engine.advance([np.array(drawn[-1:])], state)
    return f"{_GENERATED} tokens stay in the vocabulary, {len(trial.decode(drawn))} characters"


def _distance(one: FloatArray, other: FloatArray | DoubleArray) -> float:
    """Largest absolute difference; NaN where either holds one, which no tolerance admits."""
    with np.errstate(invalid="ignore"):
        return float(np.abs(one - other).max())


RULES = (
    Rule("files", _files, needed=True),
    Rule("manifest", _manifest, needed=True),
    Rule("model", _model, needed=True),
    Rule("vocabulary", _vocabulary, needed=True),
    Rule("known answer", _known),
    Rule("tokenizer", _tokenizer),
    Rule("batch", _batch),
    Rule("steps", _steps),
    Rule("generation", _generation),
)
