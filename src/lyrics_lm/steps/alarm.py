"""A drift alarm in two steps for an orchestrator: is there one to answer, and its answer."""

from collections.abc import Callable
from dataclasses import dataclass

from lyrics_lm import versioning
from lyrics_lm.params import Settings
from lyrics_lm.steps import due, retrain
from lyrics_lm.steps.due import Due

LOOK, ANSWER = "drift_alarm", "drift_answer"
STEPS = (LOOK, ANSWER)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """What an alarm of a deployment is answered by, and because of what. `nothing` says why there is none."""

    deployment: str = ""
    action: str = ""
    cause: str = ""
    nothing: str = ""


def step(settings: Settings, uri: str, name: str, say: Say) -> Answer:
    """One of `STEPS`; each decides anew on what is there, so that no alarm is answered twice."""
    seen = retrain.alarm(settings, say)
    if seen is None:
        return Answer(nothing="no drift is proved")
    found = due.find(uri, versioning.committed(settings.root), bigram_tried=True)
    if isinstance(found, Due):
        return Answer(nothing="new songs or settings are at hand, and training comes first")
    decided = retrain.decision(settings, uri, seen, due=False)
    if decided.action == "rest":
        return Answer(nothing=decided.cause)
    if name == ANSWER:
        retrain.carry_out(settings, uri, seen, decided, say)
    return Answer(seen.deployment, decided.action, decided.cause)
