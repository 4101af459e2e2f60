"""Text in, text out: one request's tokens, drawn one by one from one bundle. Knows no HTTP."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from lyrics_lm.bundle import TOKENIZER, Bundle
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.errors import ConformanceError
from lyrics_lm.inference.engine import Engine, FloatArray
from lyrics_lm.inference.sampler import log_softmax, random_stream, sample


@dataclass(frozen=True)
class Sampling:
    """How to draw. `seed` None draws a fresh one; `stop` strings end the text and are left out of it."""

    max_tokens: int = 200
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True)
class TokenScore:
    """One token as OpenAI's `logprobs` shows it; `logprob` is None for a text's first token."""

    token: str
    logprob: float | None
    top: dict[str, float] | None


@dataclass(frozen=True)
class Piece:
    """A part of a generated text. `tokens` counts those drawn since the last piece."""

    text: str
    tokens: int
    finish: str | None
    scores: tuple[TokenScore, ...] = ()


class Generator:
    """A loaded bundle with its tokenizer. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        self.engine = Engine(bundle, threads=threads)
        self.tokenizer = load_tokenizer(bundle)
        self._unknown = unknown_token(self.tokenizer)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt; an empty one is the start of a song."""
        ids: list[int] = self.tokenizer.encode(prompt or SONG_BREAK, add_special_tokens=False).ids
        return ids

    def generate(self, prompt: Sequence[int], sampling: Sampling, *, choice: int = 0) -> Iterator[Piece]:
        """Pieces of text after `prompt` (token ids, at least one), the last with its finish reason.

        The draws depend on the seed, the prompt, the sampling and the bundle alone.
        """
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        randomness = random_stream(seed, choice)
        stops = _StopStrings(sampling.stop)
        decoder = DecodeStream()
        logits, state = self.engine.advance([np.array(prompt, dtype=np.int64)], self.engine.start())
        for count in range(1, sampling.max_tokens + 1):
            uniforms = randomness.random(1)
            token = int(sample(logits, uniforms, sampling.temperature, sampling.top_p, self._unknown)[0])
            scores = () if sampling.logprobs is None else (self._score(logits[0], token, sampling.logprobs),)
            text, stopped = stops.feed(decoder.step(self.tokenizer, token) or "")
            last = count == sampling.max_tokens
            if stopped:
                yield Piece(text, 1, "stop", scores)
                return
            yield Piece(text + stops.rest() if last else text, 1, "length" if last else None, scores)
            if not last:
                logits, state = self.engine.advance([np.array([token], dtype=np.int64)], state)

    def score_prompt(self, prompt: Sequence[int], top: int) -> tuple[TokenScore, ...]:
        """Log-probability of each prompt token given those before it (the first has none)."""
        ids = np.array(prompt, dtype=np.int64)
        rows, _ = self.engine.advance_all([ids], self.engine.start())
        first = TokenScore(self.decode([int(ids[0])]), None, None)
        return (first, *(self._score(rows[0][i], int(token), top) for i, token in enumerate(ids[1:])))

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def _score(self, logits: FloatArray, token: int, top: int) -> TokenScore:
        logprobs = log_softmax(logits)
        best = np.argsort(-logprobs, kind="stable")[:top]
        table = {self.decode([int(other)]): float(logprobs[other]) for other in best}
        name = self.decode([token])
        return TokenScore(name, float(logprobs[token]), {**table, name: float(logprobs[token])} if top else None)


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's `tokenizer.json`; raises `ConformanceError` when it cannot be read."""
    path = bundle.path / TOKENIZER
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ConformanceError(f"{path} is not a tokenizers file: {error}; save it with Tokenizer.save") from error


def unknown_token(tokenizer: Tokenizer) -> int | None:
    """The id that unknown characters map to, if the tokenizer has one."""
    name = getattr(tokenizer.model, "unk_token", None)
    return None if name is None else tokenizer.token_to_id(name)


class _StopStrings:
    """Holds back text that may be the beginning of a stop string, across token borders."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show now, and whether a stop string was met (it is left out)."""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            return self._held[: min(found)], True
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown, False

    def rest(self) -> str:
        return self._held

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        sizes = range(min(len(stop) - 1, len(self._held)), 0, -1)
        return next((size for size in sizes if self._held.endswith(stop[:size])), 0)
