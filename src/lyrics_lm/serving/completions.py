"""Completions: from a validated request to OpenAI's answer, whole or as a stream of frames."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lyrics_lm.inference.generator import Generator, Piece, Sampling, TokenScore
from lyrics_lm.records import TrafficRecord
from lyrics_lm.serving.live import Serving
from lyrics_lm.serving.types import MODEL_ID, Choice, Completion, CompletionRequest, Logprobs, Usage

_THREADS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="generate")


class PromptError(ValueError):
    """A prompt that this version's tokenizer cannot take."""


@dataclass
class _Sequence:
    """One choice of an answer while it grows; `text` begins with `echo`, the prompt asked back."""

    index: int
    prompt: list[int]
    echo: str
    text: str = ""
    tokens: int = 0
    finish: str | None = None
    offset: int = 0
    scores: list[TokenScore] = field(default_factory=list)


class Answer:
    """One request being answered by one version, from the first token to the traffic record."""

    def __init__(self, request: CompletionRequest, serving: Serving, request_id: str) -> None:
        """Raises `PromptError` for token ids outside the vocabulary."""
        self._request = request
        self._serving = serving
        self.id = request_id
        self._began = time.time()
        self._created = int(self._began)
        self._prompts = [encode(serving.generator, prompt) for prompt in request.prompts]
        count = request.n or 1
        self._sequences = [
            _Sequence(place * count + choice, prompt, serving.generator.decode(prompt) if request.echo else "")
            for place, prompt in enumerate(self._prompts)
            for choice in range(count)
        ]

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
            first = self._sequences[place * (self._request.n or 1)]
            yield TrafficRecord(
                time=self._began,
                request=self.id,
                digest=self._serving.version.digest,
                prompt=self._serving.generator.decode(prompt),
                params=params,
                text=first.text[len(first.echo) :],
                prompt_tokens=len(prompt),
                tokens=first.tokens,
                seconds=time.time() - self._began,
                finish=first.finish or "cancelled",
            )

    async def _pieces(self) -> AsyncGenerator[tuple[_Sequence, Piece], None]:
        """Every piece of every choice; choices of one request run side by side."""
        async with contextlib.aclosing(_interleave([self._source(item) for item in self._sequences])) as pieces:
            async for place, piece in pieces:
                sequence = self._sequences[place]
                sequence.text += piece.text
                sequence.tokens += piece.tokens
                sequence.finish = piece.finish
                sequence.scores.extend(piece.scores)
                yield sequence, piece

    def _source(self, sequence: _Sequence) -> Callable[[], Iterator[Piece]]:
        request = self._request
        sampling = Sampling(
            max_tokens=16 if request.max_tokens is None else request.max_tokens,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=request.top_p or 1.0,
            seed=request.seed,
            stop=request.stops,
            logprobs=request.logprobs,
        )

        def source() -> Iterator[Piece]:
            generator = self._serving.generator
            if request.echo:
                scored = request.logprobs is not None
                scores = generator.score_prompt(sequence.prompt, request.logprobs or 0) if scored else ()
                yield Piece(sequence.echo, 0, None if sampling.max_tokens else "length", scores)
            if sampling.max_tokens:
                yield from generator.generate(sequence.prompt, sampling, choice=sequence.index % (request.n or 1))
            elif not request.echo:
                yield Piece("", 0, "length")

        return source

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
            created=self._created,
            model=MODEL_ID,
            system_fingerprint=self._serving.version.digest[:12],
            choices=choices,
            usage=usage,
        )

    def _usage(self) -> Usage:
        prompt = sum(len(ids) for ids in self._prompts)
        drawn = sum(sequence.tokens for sequence in self._sequences)
        return Usage(prompt_tokens=prompt, completion_tokens=drawn, total_tokens=prompt + drawn)


def encode(generator: Generator, prompt: str | list[int]) -> list[int]:
    """Token ids of a prompt; raises `PromptError` for ids that this version does not know."""
    if isinstance(prompt, str):
        return generator.encode(prompt)
    strange = next((token for token in prompt if token >= generator.engine.vocab_size), None)
    if strange is not None:
        raise PromptError(
            f"prompt: token {strange} is not in this version's vocabulary of {generator.engine.vocab_size}"
        )
    return prompt or generator.encode("")


async def _interleave(sources: list[Callable[[], Iterator[Piece]]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """Items of several blocking iterators, each run in a thread; leaving early stops them all."""
    loop = asyncio.get_running_loop()
    ready, left = asyncio.Event(), threading.Event()
    items: deque[tuple[int, Piece] | Exception | None] = deque()

    def put(item: tuple[int, Piece] | Exception | None) -> None:
        items.append(item)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the service stops
            loop.call_soon_threadsafe(ready.set)

    def work(place: int, source: Callable[[], Iterator[Piece]]) -> None:
        try:
            for piece in source():
                if left.is_set():
                    return
                put((place, piece))
        except Exception as error:  # carried over to the request that waits for it
            put(error)
        finally:
            put(None)

    for place, source in enumerate(sources):
        _THREADS.submit(work, place, source)
    running = len(sources)
    try:
        while running:
            await ready.wait()
            ready.clear()
            while items:
                item = items.popleft()
                if item is None:
                    running -= 1
                elif isinstance(item, Exception):
                    raise item
                else:
                    yield item
    finally:
        left.set()


def _frame(completion: Completion) -> bytes:
    return b"data: " + completion.model_dump_json(exclude_none=False).encode() + b"\n\n"
