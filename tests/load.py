"""A steady load of completions, and what came of it."""

import threading
from collections import Counter
from dataclasses import dataclass, field

import httpx

PROMPT, SEED, TOKENS = "love is", 7, 40


@dataclass
class Load:
    """Clients that ask the same thing over and over, half of them streaming; use as a context manager.

    `texts[digest]` counts the answers of each version: with one prompt and one seed there must be
    exactly one text per version, so a mixed answer would show.
    """

    url: str
    clients: int = 8
    failures: list[str] = field(default_factory=list)
    texts: dict[str, Counter[str]] = field(default_factory=dict)

    def __enter__(self) -> "Load":
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def answers(self) -> int:
        return sum(sum(counts.values()) for counts in self.texts.values())

    def _run(self, stream: bool) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._ended.wait(0.02):
                try:
                    digest, text = self._ask(client, stream)
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    with self._lock:
                        self.failures.append(f"{type(error).__name__}: {error}")
                else:
                    with self._lock:
                        self.texts.setdefault(digest, Counter())[text] += 1

    def _ask(self, client: httpx.Client, stream: bool) -> tuple[str, str]:
        body = {"prompt": PROMPT, "seed": SEED, "max_tokens": TOKENS, "stream": stream}
        answer = client.post(f"{self.url}/v1/completions", json=body)
        answer.raise_for_status()
        if not stream:
            return answer.headers["x-model-digest"], answer.json()["choices"][0]["text"]
        frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        if frames[-1] != "[DONE]":
            raise ValueError("a stream ended without [DONE]")
        chunks = [httpx.Response(200, text=frame).json() for frame in frames[:-1]]
        return answer.headers["x-model-digest"], "".join(chunk["choices"][0]["text"] for chunk in chunks)
