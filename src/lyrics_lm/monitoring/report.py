"""The drift report: of a monitor, as a record and in words. Pure."""

import time
from collections.abc import Sequence
from statistics import median

from lyrics_lm.monitoring import martingale
from lyrics_lm.monitoring.monitor import Monitor, unlike
from lyrics_lm.monitoring.signals import MEANING, SIGNALS
from lyrics_lm.records import DriftReport, SignalChange

_NOW = 100  # last requests that count as now
_HIDDEN = "(its text was not kept)"


def report(monitor: Monitor, version: int, advice: str | None = None) -> DriftReport:
    """What the monitor of that version has found."""
    finding = monitor.finding
    return DriftReport(
        drift_detected=finding is not None,
        version=version,
        digest=monitor.digest,
        deployment=monitor.deployment,
        reference=len(monitor.reference.rows) if monitor.reference else len(monitor.waiting),
        reference_needed=monitor.size,
        reference_is=monitor.origin,
        requests=monitor.rows,
        strength=finding.strength if finding else 10**monitor.evidence,
        proof=martingale.proof(monitor.false_alarm),
        signal=finding.signal if finding else None,
        direction=finding.direction if finding else None,
        since_request=finding.since + 1 if finding else None,
        since=monitor.drifted_since,
        alarmed=monitor.alarmed,
        examples=tuple(seen.prompt or _HIDDEN for seen in unlike(monitor)),
        signals=_changes(monitor),
        advice=advice,
    )


def describe(seen: DriftReport) -> str:
    """The report in lines for a person, outcome first."""
    if seen.reference < seen.reference_needed:
        return (
            f"no reference yet: {seen.reference} of the {seen.reference_needed} requests that say what is usual for "
            f"version {seen.version} have come; or hand prompts over: lyrics-lm drift set-reference FILE"
        )
    lines = [_outcome(seen), f"reference: {seen.reference} prompts, {seen.reference_is}"]
    lines.extend(_changed(change) for change in seen.signals)
    if seen.examples:
        lines.append("prompts that look least like before:")
        lines.extend(f"    {prompt!r}" for prompt in seen.examples)
    if seen.advice:
        lines.append(seen.advice)
    return "\n".join(lines)


def _outcome(seen: DriftReport) -> str:
    asked = f"at version {seen.version}, {seen.requests} requests after the reference"
    if not seen.drift_detected:
        return f"no drift {asked}: evidence {seen.strength:.2g}, an alarm is given at {seen.proof:.0f}"
    when = "" if seen.since is None else f" ({time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seen.since))})"
    return (
        f"drift {asked}: {seen.signal} ({MEANING[seen.signal or '']}) is {seen.direction} than before, since about "
        f"request {seen.since_request}{when}; evidence {seen.strength:.2g}, where {seen.proof:.0f} is proof"
    )


def _changed(change: SignalChange) -> str:
    then, now = ("nothing" if value is None else f"{value:.3g}" for value in (change.then, change.now))
    return f"    {change.signal}: {then} then, {now} now (medians)"


def _changes(monitor: Monitor) -> tuple[SignalChange, ...]:
    if monitor.reference is None:
        return ()
    last = monitor.recent[-_NOW:]
    then = [_median([row[place] for row in monitor.reference.rows]) for place in range(len(SIGNALS))]
    now = [_median([seen.values[place] for seen in last]) for place in range(len(SIGNALS))]
    return tuple(map(SignalChange, SIGNALS, then, now))


def _median(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return median(told) if told else None
