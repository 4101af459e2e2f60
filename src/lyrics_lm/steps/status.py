"""`lyrics-lm status`: what is live where, what waits, what trains, and the last verdicts."""

import time
from dataclasses import dataclass

from lyrics_lm.params import Settings
from lyrics_lm.records import Deployment, Progress, TrialReport, Verdict
from lyrics_lm.steps.scores import told
from lyrics_lm.steps.train import read_progress
from lyrics_lm.steps.trial import TARGET, evidence

_LAST = 5


@dataclass(frozen=True)
class Judged:
    """A version and its verdict."""

    version: int
    verdict: Verdict


@dataclass(frozen=True)
class Status:
    """A moment of the loop."""

    target: str
    live: Deployment | None
    pending: tuple[int, ...]
    training: Progress | None
    verdicts: tuple[Judged, ...]
    trial: TrialReport | None


def status(settings: Settings, target: str = "local") -> Status:
    """Look at the rollout, the registry and a running training."""
    from lyrics_lm.registry import versions
    from lyrics_lm.registry.server import tracking
    from lyrics_lm.steps.places import place
    from lyrics_lm.steps.record import record

    where = place(settings, target)
    with tracking(settings) as uri:
        record(uri, settings.home, target)
        known = versions.every(uri)
    judged = [Judged(version.version, version.verdict) for version in known if version.verdict]
    return Status(
        target=target,
        live=where.describe().current,
        pending=tuple(version.version for version in known if versions.is_pending(version)),
        training=read_progress(settings.home),
        verdicts=tuple(reversed(judged[-_LAST:])),
        trial=evidence(settings.home) if target == TARGET else None,
    )


def describe(seen: Status) -> str:
    """The status in lines for a person."""
    lines = [_live(seen)]
    if seen.trial and seen.trial.share < 100:
        lines.append(f"on trial: version {seen.trial.version}, {seen.trial.reason}")
    if seen.training:
        now = seen.training
        lines.append(
            f"training {now.model}: step {now.step} of {now.steps}, {now.bits_per_char:.3f} bits per character, "
            f"{now.seconds_left:.0f} s left"
        )
    lines.append(f"waiting: {', '.join(f'version {number}' for number in seen.pending) or 'nothing'}")
    for item in seen.verdicts:
        word = "passed" if item.verdict.passed else "rejected"
        lines.append(f"version {item.version} {word}: {item.verdict.reason}")
        lines.extend(
            f"    {'ok  ' if gate.passed else 'FAIL'} {gate.gate}: {gate.observed} (asked: {gate.threshold})"
            for gate in item.verdict.gates
        )
    return "\n".join(lines)


def _live(seen: Status) -> str:
    if seen.live is None:
        return f"{seen.target}: nothing is live yet"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seen.live.time))
    shares = ", ".join(
        f"version {live.version} ({live.architecture}, {live.digest[:12]}) at {live.share}%, "
        f"{told(live.bits_per_char, live.interval)}"
        for live in seen.live.versions
    )
    return f"{seen.target}: {shares}, since {since}: {seen.live.reason}"
