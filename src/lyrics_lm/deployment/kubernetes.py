"""The Kubernetes target: plain manifests through Kustomize, and `kubectl` where a cluster is configured.

A version that serves and one that is tried beside it are two Deployments of the same base (`manifests/`); an HTTPRoute
of the Gateway API shares the traffic between them.
"""

import contextlib
import logging
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lyrics_lm import durable, rollout
from lyrics_lm.deployment.target import one_at_a_time
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import Deployment, LiveVersion, Verdict
from lyrics_lm.rollout import Rollout

logger = logging.getLogger("lyrics_lm.delivery")

APP = "lyrics-lm"
ROLES = ("stable", "canary")
_BASE = Path(__file__).parent / "manifests"
_ROLLOUT_SECONDS = 300
_KINDS = "deployment,service,horizontalpodautoscaler,poddisruptionbudget"


@dataclass(frozen=True)
class Place:
    """Where in the cluster: its namespace, and the Gateway that routes to it."""

    namespace: str
    gateway: str


class Kubernetes:
    """Writes what should be, applies it, and waits until it is; what fails is taken back."""

    name = "kubernetes"

    def __init__(self, home: Path, place: Place, image: Callable[[LiveVersion], str]) -> None:
        """`image` makes the image of a version where the cluster finds it, once, and names it."""
        self._home = home
        self._place = place
        self._image = image

    @property
    def folder(self) -> Path:
        """The manifests: `kubectl apply --kustomize` takes them."""
        return self._home / "kubernetes"

    def deploy(self, version: LiveVersion, reason: str, evidence: Verdict, *, share: int = 100) -> Deployment:
        return self._taken_up(lambda: rollout.deploy(self._home, self.name, version, reason, evidence, share=share))

    def shift(self, share: int, reason: str) -> Deployment:
        return self._taken_up(lambda: rollout.shift(self._home, self.name, share, reason))

    def undo(self, reason: str | None = None) -> Deployment:
        return self._taken_up(lambda: rollout.undo(self._home, self.name, reason))

    def describe(self) -> Rollout:
        return rollout.read(self._home, self.name)

    def logs(self, lines: int) -> list[str]:
        if not _cluster():
            return []
        return self._kubectl("logs", f"--selector=app={APP}", f"--tail={lines}", "--prefix").splitlines()[-lines:]

    def tear_down(self) -> None:
        with one_at_a_time(self._home, self.name):
            if _cluster() and self.folder.is_dir():
                self._kubectl("delete", "--ignore-not-found", "--kustomize", str(self.folder))
            shutil.rmtree(self.folder, ignore_errors=True)
            rollout.forget(self._home, self.name)

    def _taken_up(self, change: Callable[[], Deployment]) -> Deployment:
        with one_at_a_time(self._home, self.name):
            before = self.describe().current
            deployment = change()
            try:
                self._follow(deployment)
            except DeliveryError:
                rollout.withdraw(self._home, self.name, deployment)
                if before:
                    self._restore(before)
                raise
        return deployment

    def _restore(self, before: Deployment) -> None:
        """Ask for what served before; its pods still do, for none ends before another is ready."""
        with contextlib.suppress(DeliveryError):  # told already, why
            self._write(before)
            self._kubectl("apply", "--kustomize", str(self.folder))

    def _follow(self, deployment: Deployment) -> None:
        self._write(deployment)
        if not _cluster():
            logger.info("no cluster is configured; apply it where one is: kubectl apply --kustomize %s", self.folder)
            return
        self._kubectl("apply", "--kustomize", str(self.folder))
        for role in ROLES[: len(deployment.versions)]:
            self._kubectl("rollout", "status", f"deployment/{APP}-{role}", f"--timeout={_ROLLOUT_SECONDS}s")
        if len(deployment.versions) == 1:
            self._kubectl("delete", "--ignore-not-found", _KINDS, f"--selector=app={APP},role=canary")

    def _write(self, deployment: Deployment) -> None:
        """The manifests of a deployment, in the place of those before."""
        roles = dict(zip(ROLES, deployment.versions, strict=False))
        images = {role: self._image(version) for role, version in roles.items()}
        with durable.directory(self.folder) as draft:
            shutil.copytree(_BASE, draft / "base")
            for role, image in images.items():
                (draft / role).mkdir()
                _dump(draft / role / "kustomization.yaml", _overlay(role, image, roles[role]))
            _dump(draft / "route.yaml", self._route(roles))
            (draft / "base" / "networkpolicy.yaml").rename(draft / "networkpolicy.yaml")
            resources = [*images, "networkpolicy.yaml", "route.yaml"]
            _dump(draft / "kustomization.yaml", {"namespace": self._place.namespace, "resources": resources})

    def _route(self, roles: dict[str, LiveVersion]) -> dict[str, Any]:
        backends = [{"name": f"{APP}-{role}", "port": 80, "weight": version.share} for role, version in roles.items()]
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": APP, "labels": {"app": APP}},
            "spec": {"parentRefs": [{"name": self._place.gateway}], "rules": [{"backendRefs": backends}]},
        }

    def _kubectl(self, *args: str) -> str:
        done = subprocess.run(
            ["kubectl", "--namespace", self._place.namespace, *args], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stderr.strip() or "no output").splitlines()[-1]
            raise DeliveryError(
                f"kubectl {args[0]} failed: {said}; see: kubectl --namespace {self._place.namespace} get pods"
            )
        return done.stdout


def _overlay(role: str, image: str, version: LiveVersion) -> dict[str, Any]:
    repository, _, tag = image.rpartition(":")
    return {
        "resources": ["../base"],
        "nameSuffix": f"-{role}",
        "labels": [{"pairs": {"role": role}, "includeSelectors": True}],
        "commonAnnotations": {"lyrics-lm/version": str(version.version), "lyrics-lm/digest": version.digest},
        "images": [{"name": APP, "newName": repository, "newTag": tag}],
    }


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def _cluster() -> bool:
    """Whether `kubectl` is here and knows a cluster."""
    if shutil.which("kubectl") is None:
        return False
    asked = subprocess.run(["kubectl", "config", "current-context"], capture_output=True, check=False)
    return asked.returncode == 0
