"""One text being written: what was asked, what came of it so far. Filled by one thread, read by another."""

import math
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lyrics_lm.inference.engine import FloatArray
from lyrics_lm.inference.sampler import DoubleArray, log_softmax, random_stream
from lyrics_lm.inference.vocabulary import StopStrings, Vocabulary

if TYPE_CHECKING:
    from lyrics_lm.inference.scheduler import Waker

_BLOCK = 64  # random numbers drawn at once
_UNICODE_BITS = math.log2(0x110000)


@dataclass(frozen=True)
class Sampling:
    """How to draw. `seed` None draws a fresh one; `stop` strings end the text and are left out of it;
    `echo_scores` asks for the scores of the prompt's own tokens too."""

    max_tokens: int = 200
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo_scores: bool = False


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


class Stream:
    """A text after `prompt` (token ids, at least one).

    The draws depend on the seed, the prompt, the sampling and the bundle alone. Whoever writes it calls
    `read`, `uniform`, `feed` and `fail`; whoever waits for it calls `take` and `cancel`.
    """

    def __init__(self, vocabulary: Vocabulary, prompt: Sequence[int], sampling: Sampling, *, choice: int = 0) -> None:
        self.prompt = np.array(prompt, dtype=np.int64)
        self.sampling = sampling
        self.finish: str | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self.waker: Waker | None = None
        self.is_scored = sampling.logprobs is not None
        self.tokens = 0
        self.last = int(prompt[-1])
        self._vocabulary = vocabulary
        self._random = random_stream(secrets.randbits(63) if sampling.seed is None else sampling.seed, choice)
        self._uniforms: list[float] = []
        self._speller = vocabulary.speller()
        self._is_watched = self.is_scored or bool(sampling.stop)
        self._stops = StopStrings(sampling.stop)
        self._parts: deque[Piece | Sequence[int]] = deque()
        self._told = False
        self._prompt_nats = 0.0
        self._prompt_read = 0

    @property
    def ended(self) -> bool:
        return self.finish is not None or self.error is not None

    def take(self) -> Piece | None:
        """All that came since the last call, as one piece; None when nothing did. Raises what stopped the
        writer, if something did, once all that came before is taken."""
        finish = self.finish  # looked at first: what the writer adds before it ends is there by then
        text: list[str] = []
        scores: list[TokenScore] = []
        tokens = 0
        while self._parts:
            part = self._parts.popleft()
            if isinstance(part, Piece):
                text.append(part.text)
                tokens += part.tokens
                scores.extend(part.scores)
            else:
                text.append(self._speller.spell(part))
                tokens += len(part)
        if not tokens and not scores and (finish is None or self._told):
            if self.error:
                raise self.error
            return None
        self._told = finish is not None
        return Piece("".join(text), tokens, finish, tuple(scores))

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.cancelled = True

    def prompt_bits_per_char(self) -> float | None:
        """Bits per character that the model gave the prompt after its first token, an unknown character
        paid as in `EvalReport.bits`; None where the prompt has no second token, or was not read yet."""
        if self._prompt_read < len(self.prompt) or len(self.prompt) < 2:
            return None
        after = self.prompt[1:]
        unknown = int((after == self._vocabulary.unknown).sum()) if self._vocabulary.unknown is not None else 0
        told = self._vocabulary.decode([int(token) for token in after if token != self._vocabulary.unknown])
        return (self._prompt_nats / math.log(2) + unknown * _UNICODE_BITS) / max(1, len(told) + unknown)

    def read(self, logits: FloatArray) -> None:
        """Note what the model made of the prompt's next tokens: logits (t, V) after each of them."""
        start, self._prompt_read = self._prompt_read, self._prompt_read + len(logits)
        following = self.prompt[start + 1 : self._prompt_read + 1]
        chances = log_softmax(logits[: len(following)])
        self._prompt_nats -= float(chances[np.arange(len(following)), following].sum())
        if self.sampling.echo_scores:
            first = (self._first_score(),) if start == 0 else ()
            pairs = zip(chances, following, strict=True)
            scores = [self._score(row, int(token)) for row, token in pairs]
            self._parts.append(Piece("", 0, None, (*first, *scores)))
        if self._prompt_read == len(self.prompt) and self.sampling.max_tokens == 0:
            self.finish = "length"

    def uniform(self) -> float:
        """The next random number in [0, 1)."""
        if not self._uniforms:
            self._uniforms = self._random.random(_BLOCK).tolist()[::-1]
        return self._uniforms.pop()

    def feed(self, tokens: Sequence[int], logits: FloatArray | None) -> bool:
        """Go on by the tokens drawn; where scores are asked for there is one, drawn from `logits` (V).
        Returns whether the text began or ended by it."""
        begins = self.tokens == 0
        room = self.sampling.max_tokens - self.tokens
        if len(tokens) > room:
            tokens = tokens[:room]
        self.last = tokens[-1]
        if self._is_watched:
            self._feed_closely(tokens, logits)
            return begins or self.finish is not None
        self.tokens += len(tokens)
        self._parts.append(tokens)
        if len(tokens) == room:
            self.finish = "length"
            return True
        return begins

    def fail(self, error: Exception) -> None:
        self.error = error

    def _feed_closely(self, tokens: Sequence[int], logits: FloatArray | None) -> None:
        """Token by token, watching for stop strings and noting scores."""
        for token in tokens:
            scores = () if logits is None else (self._score(log_softmax(logits), token),)
            text, stopped = self._stops.feed(self._speller.spell([token]))
            self.tokens += 1
            last = self.tokens == self.sampling.max_tokens
            text += self._stops.rest() if last and not stopped else ""
            self._parts.append(Piece(text, 1, None, scores))
            if stopped or last:
                self.finish = "stop" if stopped else "length"
                return

    def _first_score(self) -> TokenScore:
        return TokenScore(self._vocabulary.decode([int(self.prompt[0])]), None, None)

    def _score(self, chances: DoubleArray, token: int) -> TokenScore:
        """A token and the likeliest others, given log-probabilities (V)."""
        top = self.sampling.logprobs or 0
        name = self._vocabulary.decode([token])
        chance = float(chances[token])
        if not top:
            return TokenScore(name, chance, None)
        best = np.argsort(-chances, kind="stable")[:top]
        table = {self._vocabulary.decode([int(other)]): float(chances[other]) for other in best}
        return TokenScore(name, chance, {**table, name: chance})
