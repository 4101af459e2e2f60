"""Completions: from a validated request to OpenAI's answer, whole or as a stream of frames."""

import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace

from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.scheduler import Waker
from lyrics_lm.inference.stream import Piece, Sampling, Stream, TokenScore
from lyrics_lm.monitoring import words
from lyrics_lm.records import TrafficRecord
from lyrics_lm.serving.guard import STOPPED, Guard, Watch
from lyrics_lm.serving.live import Serving
from lyrics_lm.serving.types import MODEL_ID, Choice, Completion, CompletionRequest, Logprobs, Usage


class PromptError(ValueError):
    """A prompt that this version's tokenizer cannot take."""


@dataclass
class _Sequence:
    """One choice of an answer while it grows; `text` begins with `echo`, the prompt asked back."""

    index: int
    stream: Stream
    echo: str
    watch: Watch | None
    text: str = ""
    tokens: int = 0
    begun: bool = False
    finish: str | None = None
    offset: int = 0
    scores: list[TokenScore] = field(default_factory=list)

    @property
    def ended(self) -> str:
        """How: as OpenAI's `finish_reason`, `error`, or `cancelled`."""
        return self.finish or ("error" if self.stream.error else "cancelled")


class Answer:
    """One request being answered by one version, from the first token to the traffic record."""

    def __init__(
        self, request: CompletionRequest, serving: Serving, request_id: str, guard: Guard | None = None
    ) -> None:
        """Have it written, as far as `guard` allows. Raises `PromptError` for token ids outside the vocabulary,
        `BusyError` when too many texts are waiting."""
        self._request = request
        self._serving = serving
        self._guard = guard
        self.id = request_id
        self.began = time.time()
        self.first_token: float | None = None
        self._prompts = [encode(serving.generator, prompt) for prompt in request.prompts]
        self._sequences = list(self._plan())
        self._waker = Waker()
        serving.scheduler.submit([sequence.stream for sequence in self._sequences], self._waker)

    def _plan(self) -> Iterator[_Sequence]:
        request, generator = self._request, self._serving.generator
        sampling = Sampling(
            max_tokens=16 if request.max_tokens is None else request.max_tokens,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=request.top_p or 1.0,
            top_k=request.top_k or 0,
            seed=request.seed,
            stop=request.stops,
            logprobs=request.logprobs,
            echo_scores=bool(request.echo) and request.logprobs is not None,
        )
        for place, prompt in enumerate(self._prompts):
            echo = generator.vocabulary.decode(prompt) if request.echo else ""
            for choice in range(self._choices):
                stream = generator.stream(prompt, sampling, choice=choice)
                watch = self._guard.watch() if self._guard else None
                yield _Sequence(place * self._choices + choice, stream, echo, watch)

    @property
    def digest(self) -> str:
        """The version that answers."""
        return self._serving.version.digest

    @property
    def tokens(self) -> int:
        """Tokens drawn so far, over all choices."""
        return sum(sequence.tokens for sequence in self._sequences)

    @property
    def finish(self) -> str:
        """How the first choice ended; `error` or `cancelled` where it did not."""
        return self._sequences[0].ended

    @property
    def _choices(self) -> int:
        return self._request.n or 1

    async def whole(self) -> Completion:
        """All choices, complete."""
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for _ in pieces:
                pass
        choices = [
            Choice(
                index=sequence.index,
                text=sequence.text,
                logprobs=self._logprobs(sequence, sequence.scores),
                finish_reason=sequence.finish,
            )
            for sequence in self._sequences
        ]
        return self._completion(choices, self._usage())

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events: `data:` frames as text is drawn, then `[DONE]`."""
        async with contextlib.aclosing(self._pieces()) as pieces:
            async for sequence, piece in pieces:
                choice = Choice(
                    index=sequence.index,
                    text=piece.text,
                    logprobs=self._logprobs(sequence, list(piece.scores)),
                    finish_reason=piece.finish,
                )
                yield _frame(self._completion([choice], None))
        if self._request.stream_options and self._request.stream_options.include_usage:
            yield _frame(self._completion([], self._usage()))
        yield b"data: [DONE]\n\n"

    def records(self) -> Iterator[TrafficRecord]:
        """One traffic record per prompt."""
        params = self._request.model_dump(exclude={"prompt", "user"}, exclude_none=True, exclude_defaults=True)
        for place, prompt in enumerate(self._prompts):
            first = self._sequences[place * self._choices]
            asked = self._request.prompts[place]
            text = asked if isinstance(asked, str) else self._serving.generator.vocabulary.decode(prompt)
            unknown = self._serving.generator.vocabulary.unknown
            yield TrafficRecord(
                time=self.began,
                request=self.id,
                digest=self.digest,
                prompt=text,
                params=params,
                text=first.text[len(first.echo) :],
                prompt_tokens=len(prompt),
                tokens=first.tokens,
                seconds=time.time() - self.began,
                finish=first.ended,
                prompt_bits_per_char=first.stream.prompt_bits_per_char(),
                prompt_chars=len(text),
                unknown_share=0.0 if unknown is None else prompt.count(unknown) / len(prompt),
                prompt_words=words.buckets(text),
            )

    async def _pieces(self) -> AsyncGenerator[tuple[_Sequence, Piece], None]:
        """Every piece of every choice, as it comes; leaving early stops them all."""
        growing = self._sequences
        try:
            while growing:
                await self._waker.wait()
                for sequence in growing:
                    while sequence.finish is None and (piece := sequence.stream.take()):
                        yield sequence, self._noted(sequence, self._guarded(sequence, piece))
                growing = [sequence for sequence in growing if sequence.finish is None]
        finally:
            for sequence in growing:
                sequence.stream.cancel()

    def _guarded(self, sequence: _Sequence, piece: Piece) -> Piece:
        """The piece, or what of it may be sent; then nothing follows. What the model wrote counts, not the prompt."""
        if sequence.watch is None:
            return piece
        allowed = sequence.watch.allowed(piece.text)
        if allowed == len(piece.text):
            return piece
        sequence.stream.cancel()
        scored = allowed if sequence.begun else allowed + len(sequence.echo)  # which the first scores are of
        return Piece(piece.text[:allowed], piece.tokens, STOPPED, _within(piece.scores, scored))

    def _noted(self, sequence: _Sequence, piece: Piece) -> Piece:
        """Add a piece to its sequence; the first one is preceded by what is echoed."""
        if self.first_token is None and piece.tokens:
            self.first_token = time.time()
        if sequence.echo and not sequence.begun:
            piece = replace(piece, text=sequence.echo + piece.text)
        sequence.begun = True
        sequence.text += piece.text
        sequence.tokens += piece.tokens
        sequence.finish = piece.finish
        sequence.scores.extend(piece.scores)
        return piece

    def _logprobs(self, sequence: _Sequence, scores: list[TokenScore]) -> Logprobs | None:
        if self._request.logprobs is None:
            return None
        offsets = []
        for score in scores:
            offsets.append(sequence.offset)
            sequence.offset += len(score.token)
        return Logprobs(
            tokens=[score.token for score in scores],
            token_logprobs=[score.logprob for score in scores],
            top_logprobs=[score.top for score in scores] if self._request.logprobs else None,
            text_offset=offsets,
        )

    def _completion(self, choices: list[Choice], usage: Usage | None) -> Completion:
        return Completion(
            id=f"cmpl-{self.id}",
            created=int(self.began),
            model=MODEL_ID,
            system_fingerprint=self.digest[:12],
            choices=choices,
            usage=usage,
        )

    def _usage(self) -> Usage:
        prompt = sum(len(ids) for ids in self._prompts)
        return Usage(prompt_tokens=prompt, completion_tokens=self.tokens, total_tokens=prompt + self.tokens)


def encode(generator: Generator, prompt: str | list[int]) -> list[int]:
    """Token ids of a prompt; raises `PromptError` for ids that this version does not know."""
    if isinstance(prompt, str):
        return generator.vocabulary.encode(prompt)
    strange = next((token for token in prompt if token >= generator.engine.vocab_size), None)
    if strange is not None:
        raise PromptError(
            f"prompt: token {strange} is not in this version's vocabulary of {generator.engine.vocab_size}"
        )
    return prompt or generator.vocabulary.encode("")


def _within(scores: tuple[TokenScore, ...], characters: int) -> tuple[TokenScore, ...]:
    """The scores of the tokens that lie whole within so many characters."""
    ends = itertools.accumulate(len(score.token) for score in scores)
    return tuple(score for score, end in zip(scores, ends, strict=True) if end <= characters)


def _frame(completion: Completion) -> bytes:
    """In ASCII, for clients that take U+2028 and its like for the end of a line."""
    return b"data: " + completion.model_dump_json(ensure_ascii=True).encode() + b"\n\n"
