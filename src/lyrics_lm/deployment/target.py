"""What a target is: a place that serves versions, and can be taken back to what it served before."""

from pathlib import Path
from typing import Protocol

from lyrics_lm.deployment.local import Local
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import Deployment, LiveVersion, Verdict
from lyrics_lm.rollout import Rollout


class Target(Protocol):
    """A place to serve. Every method is idempotent and may be killed at any moment."""

    name: str

    def deploy(self, version: LiveVersion, reason: str, evidence: Verdict) -> Deployment:
        """Make `version` what serves; returns once it does. Raises `DeliveryError` when it does not,
        with the old version serving on."""

    def undo(self) -> Deployment:
        """Bring back what served before. Raises `DeliveryError` when nothing did."""

    def describe(self) -> Rollout:
        """What serves here, and how it came to that."""


TARGETS = {"local": Local}


def target(name: str, home: Path) -> Target:
    """The target of that name; raises `DeliveryError` that lists them."""
    if name not in TARGETS:
        raise DeliveryError(f"{name} is not a target; there is: {', '.join(TARGETS)}")
    return TARGETS[name](home)
