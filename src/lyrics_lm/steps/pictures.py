"""Pictures of a report: loss curves, and scores with their intervals. The one place that draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lyrics_lm.evaluation.gate import Interval

Losses = Sequence[tuple[int, Mapping[str, float]]]

_STYLES = {"train": "-", "validation": "o--"}


def losses(curves: Mapping[str, Losses], path: Path) -> None:
    """Nats per token by step; one colour for each model, one style for each split."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for color, (name, rows) in enumerate(curves.items()):
        for split, style in _STYLES.items():
            points = [(step, values[split]) for step, values in rows if split in values]
            axes.plot(*zip(*points, strict=True), style, color=f"C{color}", label=f"{name}, {split}", markersize=3)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.legend()
    figure.savefig(path, dpi=110)


def scores(measured: Mapping[str, Interval], path: Path) -> None:
    """Bits per character on the test songs with their 95% intervals; further left is better."""
    figure = Figure(figsize=(8, 0.6 + 0.45 * len(measured)), layout="constrained")
    axes = figure.subplots()
    for row, interval in enumerate(measured.values()):
        value = interval.difference
        reach = [[value - max(interval.low, 0)], [min(interval.high, 2 * value) - value]]
        axes.errorbar(value, row, xerr=reach, fmt="o", color=f"C{row}", capsize=4)
        axes.annotate(f"{value:.3f}", (value, row), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.set_ylim(len(measured) - 0.4, -0.6)
    axes.set_xlabel("bits per character on the test songs, 95% interval")
    figure.savefig(path, dpi=110)
