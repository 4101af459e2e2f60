"""How long one token takes, of two engines in turn, so that a busy machine slows both. Knows no limit."""

import statistics
import time

import numpy as np

from lyrics_lm.inference.engine import Engine, State

_PROMPT = 64
_SECONDS = 0.8
_FEWEST_ROUNDS = 3


def interleaved(
    candidate: Engine, champion: Engine | None, *, tokens: int = 16, rounds: int = 25
) -> tuple[float, float | None]:
    """Median milliseconds per token of one stream in full flight: (candidate's, champion's or None).

    A round steps each engine through `tokens` tokens, in turn, the first one changing; rounds end early
    after about a second. Each starts from the state after a prompt, whose reading is not timed.
    """
    engines = [candidate] if champion is None else [candidate, champion]
    states = [_after_prompt(engine) for engine in engines]
    times: list[list[float]] = [[] for _ in engines]
    started = time.perf_counter()
    for number in range(rounds):
        for place in range(len(engines)) if number % 2 == 0 else reversed(range(len(engines))):
            times[place].append(_milliseconds(engines[place], states[place], tokens))
        if number + 1 >= _FEWEST_ROUNDS and time.perf_counter() - started > _SECONDS:
            break
    medians = [statistics.median(each) for each in times]
    return medians[0], medians[1] if champion else None


def _after_prompt(engine: Engine) -> State:
    prompt = np.arange(min(_PROMPT, engine.context), dtype=np.int64) % engine.vocab_size
    _, state = engine.advance([prompt], engine.start())
    _milliseconds(engine, state, 1)
    return state


def _milliseconds(engine: Engine, state: State, tokens: int) -> float:
    """Milliseconds per token over `tokens` steps of one token, each the most likely one so far."""
    token = np.zeros(1, dtype=np.int64)
    started = time.perf_counter()
    for _ in range(tokens):
        logits, state = engine.advance([token], state)
        token = logits.argmax(axis=-1)
    return (time.perf_counter() - started) * 1000 / tokens
