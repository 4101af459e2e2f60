"""Pictures of a monitor as SVG: the martingale's path, and each signal then and now. Pure; no library, no script."""

import html
import math
from collections.abc import Sequence

import numpy as np

from lyrics_lm.monitoring import martingale
from lyrics_lm.monitoring.monitor import Monitor
from lyrics_lm.monitoring.signals import MEANING, SIGNALS

_WIDTH, _HEIGHT, _EDGE = 640, 160, 24
_BINS = 30
_LOWEST = -4.0  # log10 of the capital below which the path is drawn no lower

STYLE = """
body { font: 1rem/1.5 Georgia, serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #1b2030; }
pre { white-space: pre-wrap; } svg { width: 100%; height: auto; } iframe { width: 100%; height: 60rem; border: 0; }
.then { fill: #c3c6c4; } .now { fill: none; stroke: #ab3319; stroke-width: 2; }
.path { fill: none; stroke: #2746a8; } .proof { stroke: #ab3319; stroke-dasharray: 4 4; } text { font-size: 12px; }
"""


def page(monitor: Monitor, words: str, appendix: str) -> str:
    """A page of its own: the report in words, the pictures, and an appendix of finished HTML."""
    drawn = "".join(
        f"<h2>{name}</h2><p>{MEANING[name]}: grey then, red now</p>{_then_and_now(monitor, place)}"
        for place, name in enumerate(SIGNALS)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Drift</title><style>{STYLE}</style>'
        f"<h1>Drift</h1><pre>{html.escape(words)}</pre><h2>Evidence</h2>{_path(monitor)}{drawn}{appendix}</html>\n"
    )


def _path(monitor: Monitor) -> str:
    """log10 of the capital over requests, and the line where it proves a drift."""
    proof = math.log10(martingale.proof(monitor.false_alarm))
    top = max(proof + 0.5, *(value for _, value in monitor.path))
    last = max(1, monitor.path[-1][0])

    def y(value: float) -> float:
        return _EDGE + (_HEIGHT - 2 * _EDGE) * (top - max(value, _LOWEST)) / (top - _LOWEST)

    points = " ".join(f"{_WIDTH * row / last:.1f},{y(value):.1f}" for row, value in monitor.path)
    line = f'<line class="proof" x1="0" x2="{_WIDTH}" y1="{y(proof):.1f}" y2="{y(proof):.1f}"/>'
    label = f'<text x="4" y="{y(proof) - 4:.1f}">proof (10^{proof:.1f})</text>'
    end = f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 4}" text-anchor="end">{last} requests after the reference</text>'
    return _svg(f'{line}{label}{end}<polyline class="path" points="{points}"/>')


def _then_and_now(monitor: Monitor, place: int) -> str:
    then = _known([row[place] for row in monitor.reference.rows] if monitor.reference else [])
    now = _known([seen.values[place] for seen in monitor.recent])
    if not then or not now:
        return "<p>Nothing to compare yet.</p>"
    edges = np.histogram_bin_edges([*then, *now], bins=_BINS)
    before, after = (np.histogram(values, bins=edges)[0] / len(values) for values in (then, now))
    top = max(before.max(), after.max())
    wide, tall = _WIDTH / _BINS, _HEIGHT - 2 * _EDGE
    bars = "".join(
        f'<rect class="then" x="{wide * bin:.1f}" width="{wide - 1:.1f}" '
        f'y="{_EDGE + tall * (1 - share / top):.1f}" height="{tall * share / top:.1f}"/>'
        for bin, share in enumerate(before)
    )
    points = " ".join(
        f"{wide * (bin + 0.5):.1f},{_EDGE + tall * (1 - share / top):.1f}" for bin, share in enumerate(after)
    )
    ends = f'<text x="0" y="{_HEIGHT - 6}">{edges[0]:.3g}</text>'
    ends += f'<text x="{_WIDTH}" y="{_HEIGHT - 6}" text-anchor="end">{edges[-1]:.3g}</text>'
    return _svg(f'{bars}{ends}<polyline class="now" points="{points}"/>')


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _svg(content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}">{content}</svg>'
