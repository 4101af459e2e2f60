"""The drift monitor of one deployment: gathers its reference, then watches. Pure: state in, state out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lyrics_lm.monitoring.detector import Finding
from lyrics_lm.monitoring.martingale import Capital, ConformalMartingale
from lyrics_lm.monitoring.signals import SIGNALS, Reference, reference, signals
from lyrics_lm.records import TrafficRecord

RECENT = 500  # records kept for pictures and examples
_PATH_POINTS = 1000
_PROMPT_CHARS = 200


@dataclass(frozen=True)
class Seen:
    """A record as the monitor keeps it: its signals, None where it tells nothing."""

    request: str
    time: float
    prompt: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Monitor:
    """All that is known of a deployment's traffic. `reference` is None while it is gathered in `waiting`;
    `rows` counts what came after it, `path` holds (rows, log10 of the capital), thinned; `written` is how far
    the log was read."""

    deployment: str
    digest: str
    since: float
    false_alarm: float
    size: int
    reference: Reference | None = None
    origin: str = ""
    waiting: tuple[TrafficRecord, ...] = ()
    capital: Capital | None = None
    finding: Finding | None = None
    alarmed: float | None = None
    drifted_since: float | None = None
    recent: tuple[Seen, ...] = ()
    path: tuple[tuple[int, float], ...] = field(default=((0, 0.0),))
    written: float = 0.0

    @property
    def rows(self) -> int:
        return self.capital.rows if self.capital else 0

    @property
    def drift_detected(self) -> bool:
        return self.finding is not None

    @property
    def evidence(self) -> float:
        """log10 of the capital."""
        return self.path[-1][1]


def given(monitor: Monitor, records: Sequence[TrafficRecord], origin: str) -> Monitor:
    """The monitor with a reference handed over; what it saw before counts no more."""
    return Monitor(
        monitor.deployment,
        monitor.digest,
        monitor.since,
        monitor.false_alarm,
        len(records),
        reference=reference(records),
        origin=origin,
        written=monitor.written,
    )


def observe(monitor: Monitor, records: Sequence[TrafficRecord]) -> Monitor:
    """The monitor after these records, which are the next of its deployment."""
    if not records:
        return monitor
    if monitor.reference is None:
        waiting = (*monitor.waiting, *records)
        if len(waiting) < monitor.size:
            return replace(monitor, waiting=waiting, written=records[-1].written)
        made = reference(waiting[: monitor.size])
        records = waiting[monitor.size :]
        origin = f"the first {monitor.size} requests after the version went live"
        monitor = replace(monitor, waiting=(), reference=made, origin=origin, written=waiting[-1].written)
    return _watch(monitor, records)


def _watch(monitor: Monitor, records: Sequence[TrafficRecord]) -> Monitor:
    known = monitor.reference
    if known is None or not records:
        return monitor
    detector = ConformalMartingale(known.array, SIGNALS, false_alarm=monitor.false_alarm, capital=monitor.capital)
    path, recent, finding = list(monitor.path), list(monitor.recent), monitor.finding
    alarmed, drifted_since = monitor.alarmed, monitor.drifted_since
    first = detector.rows
    for record in records:
        row = signals(record, known)
        detector.update(row)
        values = tuple(None if math.isnan(value) else float(value) for value in row)
        recent.append(Seen(record.request, record.time, record.prompt[:_PROMPT_CHARS], values))
        path.append((detector.rows, math.log10(detector.capital)))
        if finding is None and detector.finding:
            finding, alarmed = detector.finding, record.time
            drifted_since = _time_of(finding.since - first, records, monitor.recent)
    return replace(
        monitor,
        capital=detector.kept,
        finding=finding,
        alarmed=alarmed,
        drifted_since=drifted_since,
        recent=tuple(recent[-RECENT:]),
        path=_thinned(path),
        written=max(monitor.written, records[-1].written),
    )


def _time_of(place: int, records: Sequence[TrafficRecord], recent: Sequence[Seen]) -> float:
    """When the record at `place` came; a negative place lies among those seen before."""
    if place >= 0:
        return records[place].time
    return recent[max(place, -len(recent))].time if recent else records[0].time


def unlike(monitor: Monitor, count: int = 3) -> tuple[Seen, ...]:
    """The prompts since the drift began that lie furthest out in the signal that gave it away."""
    finding = monitor.finding
    if finding is None:
        return ()
    place, sign = SIGNALS.index(finding.signal), 1 if finding.direction == "higher" else -1
    first = monitor.rows - len(monitor.recent)
    drifted = monitor.recent[max(0, finding.since - first) :]
    told = [(sign * value, seen) for seen in drifted if (value := seen.values[place]) is not None]
    ordered = sorted(told, key=lambda pair: pair[0], reverse=True)
    distinct = {seen.prompt or seen.request: seen for _, seen in reversed(ordered)}
    return tuple(sorted(distinct.values(), key=lambda seen: -sign * (seen.values[place] or 0.0))[:count])


def _thinned(path: list[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """At most `_PATH_POINTS`, the last one among them."""
    step = -(-len(path) // _PATH_POINTS)
    return tuple(path) if step == 1 else (*path[:-1:step], path[-1])
