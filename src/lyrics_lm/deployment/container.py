"""The container target: an image for each version, for whoever runs containers. Knows which is live, runs none."""

from collections.abc import Callable
from pathlib import Path

from lyrics_lm import rollout
from lyrics_lm.deployment.target import one_at_a_time
from lyrics_lm.records import Deployment, LiveVersion, Verdict
from lyrics_lm.rollout import Rollout


class Container:
    """Builds the image before it calls a version live. Shares are kept for whoever spreads the traffic."""

    name = "container"

    def __init__(self, home: Path, image: Callable[[LiveVersion], str]) -> None:
        """`image` makes the image of a version, once."""
        self._home = home
        self._image = image

    def deploy(self, version: LiveVersion, reason: str, evidence: Verdict, *, share: int = 100) -> Deployment:
        self._image(version)
        with one_at_a_time(self._home, self.name):
            return rollout.deploy(self._home, self.name, version, reason, evidence, share=share)

    def shift(self, share: int, reason: str) -> Deployment:
        with one_at_a_time(self._home, self.name):
            return rollout.shift(self._home, self.name, share, reason)

    def undo(self, reason: str | None = None) -> Deployment:
        with one_at_a_time(self._home, self.name):
            return rollout.undo(self._home, self.name, reason)

    def describe(self) -> Rollout:
        return rollout.read(self._home, self.name)

    def logs(self, lines: int) -> list[str]:
        return []  # they are where the container runs

    def tear_down(self) -> None:
        with one_at_a_time(self._home, self.name):
            rollout.forget(self._home, self.name)
