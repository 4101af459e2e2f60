"""`lyrics-lm step NAME`: one step of a loop for an orchestrator, from JSON to JSON."""

import msgspec

from lyrics_lm import versioning
from lyrics_lm.errors import DeliveryError
from lyrics_lm.params import Settings
from lyrics_lm.records import from_json, to_json
from lyrics_lm.steps.pipeline import STAGES

_DRIFT = "drift"
_LAST = "export"


def run(settings: Settings, name: str, text: str, target: str) -> str:
    """Run the step on the JSON that the one before it gave; returns its own."""
    if name in STAGES:
        STAGES[name](settings)
        if name == _LAST and (experiment := versioning.experiment()):
            from lyrics_lm.steps import sweep

            sweep.put_on_record(settings, experiment)
        return to_json({"stage": name, "done": True}).decode()
    if name == _DRIFT:
        from lyrics_lm.steps.drift import drift

        return to_json(drift(settings, target)).decode()
    return _release_step(settings, name, text, target)


def _release_step(settings: Settings, name: str, text: str, target: str) -> str:
    from lyrics_lm.registry.server import tracking
    from lyrics_lm.steps.release import Candidate, Release

    try:
        candidate = from_json(text, Candidate) if text.strip() else Candidate(target=target)
    except msgspec.DecodeError as error:
        raise DeliveryError(f"step {name} was given no output of a step: {error}") from error
    if name not in Release.STEPS:
        raise DeliveryError(f"{name} is not a step; there is: {', '.join([*STAGES, _DRIFT, *Release.STEPS])}")
    with tracking(settings) as uri:
        return to_json(Release(settings, uri).step(name)(candidate)).decode()
