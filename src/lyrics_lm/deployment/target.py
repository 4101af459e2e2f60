"""What a target is: a place that serves versions, and can be taken back to what it served before."""

from pathlib import Path
from typing import Protocol

from filelock import FileLock

from lyrics_lm import rollout
from lyrics_lm.records import Deployment, LiveVersion, Verdict
from lyrics_lm.rollout import Rollout


def one_at_a_time(home: Path, target: str) -> FileLock:
    """Held while the rollout of a target changes; a killed holder lets go of it."""
    file = rollout.path(home, target).with_suffix(".lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file)


class Target(Protocol):
    """A place to serve. Every method may be killed at any moment and called again."""

    name: str

    def deploy(self, version: LiveVersion, reason: str, evidence: Verdict, *, share: int = 100) -> Deployment:
        """Give `version` that share of the traffic (percent) beside what serves; returns once it has it.
        Raises `DeliveryError` when it does not get it, with the old version serving on."""

    def shift(self, share: int, reason: str) -> Deployment:
        """Give the challenger another share: 100 promotes it, 0 aborts. Raises `DeliveryError` without one."""

    def undo(self, reason: str | None = None) -> Deployment:
        """Bring back what served alone before, in the middle of a trial what serves beside it. A reason makes
        it a rollback. Raises `DeliveryError` when nothing served before."""

    def describe(self) -> Rollout:
        """What serves here, and how it came to that."""

    def logs(self, lines: int) -> list[str]:
        """The last lines that what serves here wrote."""

    def tear_down(self) -> None:
        """Take away what this target made, and nothing else."""
