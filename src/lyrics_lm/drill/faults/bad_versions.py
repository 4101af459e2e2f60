"""Versions that passed everything, and misbehave once they serve: each is taken back by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from lyrics_lm import rollout
from lyrics_lm.bundle import Bundle
from lyrics_lm.drill.load import Load
from lyrics_lm.drill.loop import Loop
from lyrics_lm.drill.supply import TROUBLE

_ROLLED_BACK_SECONDS = 240


def crashing(loop: Loop, load: Load) -> str:
    """Its engine fails on a character that no song has."""
    return _taken_back(loop, loop.supply.crashing())


def hanging(loop: Loop, load: Load) -> str:
    """Its engine never returns from such a character."""
    return _taken_back(loop, loop.supply.hanging())


def hogging(loop: Loop, load: Load) -> str:
    """Its engine asks for a terabyte at such a character."""
    return _taken_back(loop, loop.supply.hogging())


def _taken_back(loop: Loop, bad: Bundle) -> str:
    good = loop.put_live(loop.supply.worst()).versions[0]
    loop.wait_idle()
    loop.put_live(bad)
    with _trouble(loop):

        def back() -> bool:
            current = rollout.read(loop.home, "local").current
            return current is not None and current.action == "rollback"

        loop.wait("the version to be rolled back", back, _ROLLED_BACK_SECONDS)
    loop.wait_live(good.digest)
    current = rollout.read(loop.home, "local").current
    return current.reason if current else ""


@contextmanager
def _trouble(loop: Loop) -> Iterator[None]:
    """Somebody asks it what it cannot bear, again and again."""
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=5) as client:
            while not ended.wait(0.2):
                try:
                    client.post(f"{loop.url}/v1/completions", json={"prompt": f"love {TROUBLE} you", "max_tokens": 5})
                except httpx.HTTPError:
                    continue

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()
