"""The local target: a service on this machine that follows `rollouts/local.json`."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from lyrics_lm import rollout
from lyrics_lm.deployment.target import one_at_a_time
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import Deployment, LiveVersion, Observed, Verdict
from lyrics_lm.rollout import Rollout

_SWAP_SECONDS = 20


class Local:
    """Writes the rollout file and waits until the service says that it serves it."""

    name = "local"

    def __init__(self, home: Path) -> None:
        self._home = home

    def deploy(self, version: LiveVersion, reason: str, evidence: Verdict, *, share: int = 100) -> Deployment:
        return self._taken_up(lambda: rollout.deploy(self._home, self.name, version, reason, evidence, share=share))

    def shift(self, share: int, reason: str) -> Deployment:
        return self._taken_up(lambda: rollout.shift(self._home, self.name, share, reason))

    def undo(self, reason: str | None = None) -> Deployment:
        return self._taken_up(lambda: rollout.undo(self._home, self.name, reason))

    def describe(self) -> Rollout:
        return rollout.read(self._home, self.name)

    def logs(self, lines: int) -> list[str]:
        file = self._home / "logs" / "service.log"
        return file.read_text(errors="replace").splitlines()[-lines:] if file.is_file() else []

    def tear_down(self) -> None:
        with one_at_a_time(self._home, self.name):
            rollout.forget(self._home, self.name)

    def died(self, since: float) -> int:
        """How many processes took a deployment up after that time, and are gone."""
        return sum(seen.time > since and not self._lives(seen) for seen in rollout.observed(self._home, self.name))

    def _taken_up(self, change: Callable[[], Deployment]) -> Deployment:
        with one_at_a_time(self._home, self.name):
            deployment = change()
            self._wait(deployment)
        return deployment

    def _wait(self, deployment: Deployment) -> None:
        """Wait until every process of a running service has taken the deployment up; without a service it
        stands as a wish."""
        give_up = time.monotonic() + _SWAP_SECONDS
        while serving := self._serving():
            error = next((seen.error for seen in serving if seen.deployment == deployment.id and seen.error), None)
            if error:
                rollout.withdraw(self._home, self.name, deployment)
                raise DeliveryError(f"the service keeps its old version: {error}")
            if all(seen.deployment == deployment.id for seen in serving):
                return
            if time.monotonic() > give_up:
                rollout.withdraw(self._home, self.name, deployment)
                raise DeliveryError(
                    f"the service did not take the new version within {_SWAP_SECONDS} s; see logs/service.log"
                )
            time.sleep(0.01)

    def _serving(self) -> list[Observed]:
        """What the processes that live say they serve."""
        return [seen for seen in rollout.observed(self._home, self.name) if self._lives(seen)]

    def _lives(self, seen: Observed) -> bool:
        """Whether the process that reported is still there, and not another one of that number. What it follows
        tells; when it began would not, on a machine whose clock is set."""
        try:
            return psutil.Process(seen.pid).environ().get(rollout.HOME) == str(self._home)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
