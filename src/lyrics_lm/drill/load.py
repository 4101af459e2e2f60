"""A steady load of completions that asks on time whatever became of the last answer, and what came of it."""

import asyncio
import contextlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

_PROMPTS, _SEED, _TOKENS = ("love is",), 7, 8
_TIMEOUT_SECONDS = 5.0  # a later answer counts as failed
_DONE = "data: [DONE]"


@dataclass(frozen=True)
class Answer:
    """One request: asked and answered in seconds of the monotonic clock; `error` is empty where it was answered."""

    asked: float
    answered: float
    prompt: str
    request: str
    digest: str
    text: str
    error: str


@dataclass(frozen=True)
class Window:
    """What clients met within some seconds: requests, those that failed (the first with its reason), the longest
    time in which no answer came (seconds), and milliseconds to the answer."""

    requests: int
    failed: int
    error: str
    outage: float
    median_ms: float
    p99_ms: float

    @property
    def success(self) -> float:
        """Share of requests that were answered."""
        return 1 - self.failed / self.requests if self.requests else 0.0


class Load:
    """Asks `rate` times a second, half of it streaming, the same `prompts` in turn with the same seed: so each
    version has one text for each, and a mixed answer shows. Use as a context manager."""

    def __init__(self, url: str, rate: float) -> None:
        self.rate = rate
        self.prompts: Sequence[str] = _PROMPTS
        self._url = url
        self._answers: list[Answer] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def between(self, start: float, end: float) -> list[Answer]:
        """The requests asked then, by when they were."""
        chosen = [answer for answer in self._answers if start <= answer.asked <= end]
        return sorted(chosen, key=lambda answer: answer.asked)

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, limits=limits) as client:
            asking: set[asyncio.Task[None]] = set()
            due, number = time.monotonic(), 0
            while not self._ended.is_set():
                task = asyncio.create_task(self._ask(client, number))
                asking.add(task)
                task.add_done_callback(asking.discard)
                number += 1
                due = max(due + 1 / self.rate, time.monotonic() - 1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.gather(*asking)

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        stream, prompt = number % 2 == 0, self.prompts[number // 2 % len(self.prompts)]
        asked, text, error, headers = time.monotonic(), "", "", httpx.Headers()
        body = {"prompt": prompt, "seed": _SEED, "max_tokens": _TOKENS, "stream": stream}
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                answer = await client.post(f"{self._url}/v1/completions", json=body)
            headers = answer.headers
            answer.raise_for_status()
            text = _streamed(answer.text) if stream else answer.json()["choices"][0]["text"]
        except (httpx.HTTPError, TimeoutError, LookupError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}".splitlines()[0]
        request, digest = headers.get("x-request-id", ""), headers.get("x-model-digest", "")
        self._answers.append(Answer(asked, time.monotonic(), prompt, request, digest, text, error))


def window(answers: Sequence[Answer], start: float, end: float) -> Window:
    """What those requests met."""
    failures = [answer for answer in answers if answer.error]
    milliseconds = sorted(1000 * (one.answered - one.asked) for one in answers if not one.error) or [float("nan")]
    moments = sorted(min(max(one.answered, start), end) for one in answers if not one.error)
    gaps = [after - before for before, after in zip([start, *moments], [*moments, end], strict=True)]
    return Window(
        requests=len(answers),
        failed=len(failures),
        error=failures[0].error if failures else "",
        outage=max(gaps),
        median_ms=milliseconds[len(milliseconds) // 2],
        p99_ms=milliseconds[len(milliseconds) * 99 // 100],
    )


def mixed(answers: Sequence[Answer]) -> list[str]:
    """Versions that gave more than one text to the same prompt and seed."""
    texts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for answer in answers:
        if not answer.error:
            texts[answer.digest, answer.prompt].add(answer.text)
    return sorted({digest for (digest, _), given in texts.items() if len(given) > 1})


def _streamed(text: str) -> str:
    """The text of a stream of events; raises `ValueError` where it was cut off, or failed in the middle."""
    frames = [line for line in text.split("\n") if line.startswith("data: ")]
    if not frames or frames[-1] != _DONE:
        raise ValueError("a stream ended without [DONE]")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]
    with contextlib.suppress(KeyError):
        return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    raise ValueError(f"a stream failed: {text[-200:]}")
