"""`lyrics-lm step NAME`: one step of a loop for an orchestrator, from JSON to JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from lyrics_lm import versioning
from lyrics_lm.errors import DeliveryError
from lyrics_lm.params import Settings
from lyrics_lm.records import from_json, to_json
from lyrics_lm.steps.pipeline import STAGES
from lyrics_lm.steps.release import Candidate, Release, outcome

_DRIFT = "drift"
_LAST = "export"
_FETCH, _BRANCH, *_ = Release.STEPS

R = TypeVar("R")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """What a step gave, as JSON. `nothing` says why it had nothing to do; empty where it had."""

    output: str
    nothing: str = ""


def run(settings: Settings, name: str, text: str, target: str, say: Say) -> Done:
    """Run the step on the JSON that the one before it gave. What it has to say goes to `say`."""
    if name in STAGES:
        STAGES[name](settings)
        if name == _LAST and (experiment := versioning.experiment()):
            from lyrics_lm.steps import sweep

            sweep.put_on_record(settings, experiment)
        return Done(to_json({"stage": name, "done": True}).decode())
    if name == _DRIFT:
        from lyrics_lm.steps.drift import drift

        return Done(to_json(drift(settings, target)).decode())
    if name in Release.STEPS:
        return _release(settings, name, _given(name, text, Candidate(target=target)), say)
    return _retrain(settings, name, text, say)


def _release(settings: Settings, name: str, candidate: Candidate, say: Say) -> Done:
    from lyrics_lm.registry.server import tracking

    if name != _FETCH and not candidate.goes_on:
        return Done(to_json(candidate).decode(), _why_not(candidate))
    if name != _BRANCH:
        with tracking(settings) as uri:
            candidate = Release(settings, uri).step(name)(candidate)
    if candidate.verdict and not candidate.goes_on:
        say(_why_not(candidate))
    elif candidate.verdict and candidate.deployment:
        say(outcome(candidate))
    return Done(to_json(candidate).decode())


def _retrain(settings: Settings, name: str, text: str, say: Say) -> Done:
    """These know statistics, which takes a second to import."""
    from lyrics_lm.registry.server import tracking
    from lyrics_lm.steps import alarm, training_run
    from lyrics_lm.steps.training_run import TrainingRun

    if name not in (*training_run.STEPS, *alarm.STEPS):
        known = (*STAGES, _DRIFT, *Release.STEPS, *training_run.STEPS, *alarm.STEPS)
        raise DeliveryError(f"{name} is not a step; there is: {', '.join(known)}")
    with tracking(settings) as uri:
        done = (
            training_run.step(settings, uri, name, _given(name, text, TrainingRun()), say)
            if name in training_run.STEPS
            else alarm.step(settings, uri, name, say)
        )
    return Done(to_json(done).decode(), done.nothing)


def _why_not(candidate: Candidate) -> str:
    return "nothing waits" if candidate.verdict is None else outcome(candidate)


def _given(name: str, text: str, default: R) -> R:
    try:
        return from_json(text, type(default)) if text.strip() else default
    except msgspec.DecodeError as error:
        raise DeliveryError(f"step {name} was given no output of a step: {error}") from error
