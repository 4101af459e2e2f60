"""The local target: a service on this machine that follows `rollouts/local.json`."""

import time
from pathlib import Path

import psutil
from filelock import FileLock

from lyrics_lm import rollout
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import Deployment, LiveVersion, Verdict
from lyrics_lm.rollout import Rollout

_SWAP_SECONDS = 20


class Local:
    """Writes the rollout file and waits until the service says that it serves it."""

    name = "local"

    def __init__(self, home: Path) -> None:
        self._home = home

    def deploy(self, version: LiveVersion, reason: str, evidence: Verdict) -> Deployment:
        with self._one_at_a_time():
            deployment = rollout.deploy(self._home, self.name, version, reason, evidence)
            self._wait(deployment)
        return deployment

    def undo(self) -> Deployment:
        with self._one_at_a_time():
            deployment = rollout.undo(self._home, self.name)
            self._wait(deployment)
        return deployment

    def describe(self) -> Rollout:
        return rollout.read(self._home, self.name)

    def _one_at_a_time(self) -> FileLock:
        """Held while the rollout changes; a killed holder lets go of it."""
        file = rollout.path(self._home, self.name).with_suffix(".lock")
        file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(file)

    def _wait(self, deployment: Deployment) -> None:
        """Wait for a running service to take the deployment up; without one it stands as a wish."""
        give_up = time.monotonic() + _SWAP_SECONDS
        while self._service_runs():
            seen = rollout.observed(self._home, self.name)
            if seen and seen.deployment == deployment.id:
                if seen.error:
                    rollout.withdraw(self._home, self.name, deployment)
                    raise DeliveryError(f"the service keeps its old version: {seen.error}")
                return
            if time.monotonic() > give_up:
                rollout.withdraw(self._home, self.name, deployment)
                raise DeliveryError(
                    f"the service did not take the new version within {_SWAP_SECONDS} s; see logs/service.log"
                )
            time.sleep(0.01)

    def _service_runs(self) -> bool:
        """Whether the process that last reported here still lives."""
        seen = rollout.observed(self._home, self.name)
        return seen is not None and psutil.pid_exists(seen.pid)
