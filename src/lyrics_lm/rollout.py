"""The desired state of a target: which versions serve at which share, and how it came to that."""

import contextlib
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lyrics_lm import durable
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import Deployment, LiveVersion, Observed, Verdict, from_json, to_json

HOME = "LYRICS_LM_SERVE_HOME"  # in the environment of a process that follows the rollouts of that home


@dataclass(frozen=True)
class Rollout:
    """Deployments of one target, oldest first; the last one is in force."""

    target: str
    history: tuple[Deployment, ...] = ()

    @property
    def current(self) -> Deployment | None:
        return self.history[-1] if self.history else None

    @property
    def live(self) -> LiveVersion | None:
        """The version with the largest share of traffic."""
        return max(self.current.versions, key=lambda version: version.share) if self.current else None

    @property
    def settled(self) -> Deployment | None:
        """The last deployment in which one version served alone: where an abort or an undo goes back to."""
        return next((one for one in reversed(self.history) if len(one.versions) == 1), None)

    @property
    def challenger(self) -> LiveVersion | None:
        """The version that is being tried beside the one that serves."""
        return self.current.versions[1] if self.current and len(self.current.versions) > 1 else None

    def chain(self, back: int) -> list[Deployment]:
        """The deployment in force, and those that so many undos, one after the other, would bring back."""
        by_id = {deployment.id: deployment for deployment in self.history}
        found: list[Deployment] = []
        at = self.current
        while at is not None and len(found) <= back:
            found.append(at)
            origin = by_id.get(at.restores or at.id)
            at = by_id.get(origin.replaces or "") if origin else None
        return found

    def previous(self) -> Deployment:
        """What an undo brings back: the deployment that the one in force, or the one it restored, replaced.

        Raises `DeliveryError` when nothing came before it.
        """
        by_id = {deployment.id: deployment for deployment in self.history}
        if self.current is None:
            raise DeliveryError(f"nothing is live at {self.target}, so there is nothing to undo")
        origin = by_id.get(self.current.restores or self.current.id)
        if origin is None or origin.replaces not in by_id:
            raise DeliveryError(f"there is no deployment at {self.target} before the one in force; nothing to undo")
        return by_id[origin.replaces]


def path(home: Path, target: str) -> Path:
    return home / "rollouts" / f"{target}.json"


def read(home: Path, target: str) -> Rollout:
    """The rollout as it stands; an empty one where nothing was ever deployed."""
    file = path(home, target)
    try:
        return from_json(file.read_bytes(), Rollout)
    except FileNotFoundError:
        return Rollout(target)
    except msgspec.DecodeError as error:
        raise DeliveryError(f"{file} is damaged ({error}); move it away and run: lyrics-lm deliver") from error


def deploy(
    home: Path, target: str, version: LiveVersion, reason: str, evidence: Verdict, *, share: int = 100
) -> Deployment:
    """Give `version` that share of the traffic at `target`, in percent, beside what serves; with nothing
    to serve beside, all of it. Doing so again for one that is there changes nothing."""
    rollout = read(home, target)
    if rollout.current and any(one.digest == version.digest for one in rollout.current.versions):
        return rollout.current
    if share == 100 or rollout.settled is None:
        return _append(home, rollout, "deploy", (replace(version, share=100),), reason, evidence=evidence)
    champion = rollout.settled.versions[0]
    return _append(
        home, rollout, "canary" if share else "shadow", _shared(champion, version, share), reason, evidence=evidence
    )


def begin(home: Path, target: str, version: LiveVersion, reason: str, evidence: Verdict | None) -> Deployment:
    """Make `version` what serves at `target`, with no history behind it."""
    return _append(home, Rollout(target), "deploy", (version,), reason, evidence=evidence)


def shift(home: Path, target: str, share: int, reason: str) -> Deployment:
    """Give the challenger another share: 100 promotes it, 0 sends it away. Raises `DeliveryError` without one."""
    rollout = read(home, target)
    if rollout.current is None or rollout.settled is None or rollout.challenger is None:
        raise DeliveryError(f"no version is being tried at {target}; see: lyrics-lm status")
    champion, challenger = rollout.current.versions
    if share == 0:
        return _append(home, rollout, "abort", (replace(champion, share=100),), reason, restores=_origin(rollout))
    if share == 100:
        return _append(home, rollout, "promote", (replace(challenger, share=100),), reason)
    return _append(home, rollout, "shift", _shared(champion, challenger, share), reason)


def undo(home: Path, target: str, reason: str | None = None) -> Deployment:
    """Bring back what served before, as a deployment of its own. Undone again, goes one further back.
    With a reason it is a rollback, which no person asked for."""
    rollout = read(home, target)
    back = rollout.previous()
    current = rollout.challenger or rollout.live
    action = "rollback" if reason else "undo"
    why = reason or f"undo of version {current.version if current else '?'}"
    return _append(home, rollout, action, back.versions, why, restores=back.restores or back.id)


def _shared(champion: LiveVersion, challenger: LiveVersion, share: int) -> tuple[LiveVersion, LiveVersion]:
    return replace(champion, share=100 - share), replace(challenger, share=share)


def _origin(rollout: Rollout) -> str | None:
    """The deployment that put there what served before the trial."""
    settled = rollout.settled
    return (settled.restores or settled.id) if settled else None


def withdraw(home: Path, target: str, deployment: Deployment) -> None:
    """Take back a deployment that never came to serve, if it is still the one in force."""
    rollout = read(home, target)
    if rollout.current and rollout.current.id == deployment.id:
        durable.write(path(home, target), to_json(Rollout(target, rollout.history[:-1])))


def shorten(home: Path, target: str, back: int) -> None:
    """Forget deployments that so many undos do not reach; what each of them goes back to is kept with it."""
    rollout = read(home, target)
    needed = {deployment.id for deployment in rollout.chain(back)}
    needed |= {deployment.restores for deployment in rollout.chain(back) if deployment.restores}
    first = next((place for place, one in enumerate(rollout.history) if one.id in needed), 0)
    shortened = Rollout(target, rollout.history[first:])
    if shortened != rollout:
        durable.write(path(home, target), to_json(shortened))


def forget(home: Path, target: str) -> None:
    """Nothing serves there any more; the record of what did stays in MLflow."""
    path(home, target).unlink(missing_ok=True)


def _append(
    home: Path,
    rollout: Rollout,
    action: str,
    versions: tuple[LiveVersion, ...],
    reason: str,
    *,
    restores: str | None = None,
    evidence: Verdict | None = None,
) -> Deployment:
    deployment = Deployment(
        id=uuid.uuid4().hex,
        target=rollout.target,
        time=time.time(),
        action=action,
        versions=versions,
        reason=reason,
        replaces=rollout.settled.id if rollout.settled else None,
        restores=restores,
        evidence=evidence,
    )
    after = Rollout(rollout.target, (*rollout.history, deployment))
    durable.write(path(home, rollout.target), to_json(after))
    return deployment


def observations(home: Path, target: str) -> Path:
    """Where each process that serves at `target` reports, in a file of its own."""
    return home / "rollouts" / f"{target}.observed"


def observe(home: Path, target: str, seen: Observed) -> None:
    """Report, in the place of what that process reported before."""
    durable.write(observations(home, target) / f"{seen.pid}.json", to_json(seen))


def observed(home: Path, target: str) -> list[Observed]:
    """What each process last reported, those that have ended since included. A damaged report tells nothing."""
    found = []
    for file in sorted(observations(home, target).glob("[0-9]*.json")):
        with contextlib.suppress(msgspec.DecodeError, FileNotFoundError):
            found.append(from_json(file.read_bytes(), Observed))
    return found
