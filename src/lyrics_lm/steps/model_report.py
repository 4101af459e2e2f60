"""`lyrics-lm report VERSION`: one page about a version, to send to a colleague: card, verdict, curves, scores."""

import html
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm import bundle, durable
from lyrics_lm.bundle import CARD
from lyrics_lm.params import Settings
from lyrics_lm.records import EvalReport, from_json
from lyrics_lm.steps import page as pages
from lyrics_lm.steps import pipeline
from lyrics_lm.steps.train import losses

if TYPE_CHECKING:
    from lyrics_lm.evaluation.gate import Interval
    from lyrics_lm.registry.runs import Run
    from lyrics_lm.registry.versions import Version

_WATTS = 10  # of a busy core of a server


@dataclass(frozen=True)
class Written:
    """Where the page lies, and of which version it is."""

    path: Path
    version: int


@dataclass(frozen=True)
class _Evidence:
    """What the run of a version kept of it."""

    report: EvalReport
    losses: str
    counted: dict[str, float]
    metrics: dict[str, float]


def write(settings: Settings, number: int, path: Path) -> Written:
    """Write the page of a version. A bundle from outside has no run: then its card and verdict stand alone.

    Raises `RegistryError` when there is no such version.
    """
    from lyrics_lm.registry import runs, versions
    from lyrics_lm.registry.server import tracking

    with tracking(settings) as uri, tempfile.TemporaryDirectory() as name:
        version = versions.get(uri, number)
        versions.fetch(uri, number, Path(name))
        card = (bundle.read(versions.locate(Path(name), number)).path / CARD).read_text(encoding="utf-8")
        run = runs.get(uri, version.run) if version.run else None
        evidence = _evidence(uri, run)
        champion = versions.champion(uri)
        other = champion if champion and champion.version != number else None
        theirs = _evidence(uri, runs.get(uri, other.run)) if other and other.run else None
    measured = _measured(version, evidence, other, theirs)
    durable.write(path, _page(version, card, evidence, measured).encode())
    return Written(path, number)


def _evidence(uri: str, run: "Run | None") -> _Evidence | None:
    from lyrics_lm.registry import runs

    if run is None:
        return None
    names = (pipeline.REPORT, pipeline.LOSSES.name, pipeline.METRICS.name)
    texts = [runs.read_text(uri, run.id, name) for name in names]
    if any(text is None for text in texts):
        return None
    report, curve, metrics = (text or "" for text in texts)
    counted = json.loads(metrics)
    bits = {name: counted[key]["bits_per_char"] for key, name in pipeline.COUNTED.items()}
    return _Evidence(from_json(report, EvalReport), curve, bits, run.metrics)


def _measured(
    version: "Version", ours: _Evidence | None, other: "Version | None", theirs: _Evidence | None
) -> "dict[str, Interval]":
    """Scores with intervals, of what was scored on the same songs."""
    from lyrics_lm.evaluation.gate import Interval, spread

    if ours is None:
        return {}
    found = {f"version {version.version}": spread(ours.report)}
    if other and theirs and theirs.report.split == ours.report.split:
        found[f"champion, version {other.version}"] = spread(theirs.report)
    return {**found, **{name: Interval(bits, bits, bits) for name, bits in ours.counted.items()}}


def _page(version: "Version", card: str, evidence: _Evidence | None, measured: "dict[str, Interval]") -> str:
    from markdown_it import MarkdownIt

    parts = [
        f"<p>Version {version.version}, bundle <code>{version.digest or ''}</code>, "
        f"reported {time.strftime('%Y-%m-%d %H:%M')}</p>",
        *_verdict(version),
        *_pictures(evidence, measured),
        MarkdownIt("commonmark").enable("table").render(card),
    ]
    return pages.page(f"lyrics-lm, version {version.version}", parts)


def _verdict(version: "Version") -> Iterator[str]:
    verdict = version.verdict
    if verdict is None:
        yield "<p>Not judged yet.</p>"
        return
    word = "passed" if verdict.passed else "failed"
    yield f'<p class="{word}">Its gates {word}: {html.escape(verdict.reason)}</p>'
    yield pages.table(
        ("gate", "", "seen", "asked"),
        [(gate.gate, "ok" if gate.passed else "FAIL", gate.observed, gate.threshold) for gate in verdict.gates],
    )


def _pictures(evidence: _Evidence | None, measured: "dict[str, Interval]") -> Iterator[str]:
    from lyrics_lm.steps import pictures

    if evidence is None:
        yield "<p>Registered from outside: no run tells how it was trained.</p>"
        return
    yield pages.drawn(lambda file: pictures.scores(measured, file))
    yield pages.drawn(lambda file: pictures.losses({"this version": losses(evidence.losses)}, file))
    cpu = evidence.metrics["cpu_seconds"]
    yield (
        f"<p>Made in {evidence.metrics['seconds']:.0f} s: {cpu:.0f} CPU seconds to prepare, train, measure and export, "
        f"or about {cpu * _WATTS / 3600:.2f} Wh at {_WATTS} W a core.</p>"
    )
