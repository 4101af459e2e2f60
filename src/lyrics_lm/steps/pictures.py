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


def outages(rows: Sequence[tuple[str, float, float, bool]], path: Path) -> None:
    """Faults by name: the longest time without an answer and the time to recover, in seconds, and whether every
    promise was kept."""
    figure = Figure(figsize=(8, 1.0 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    outage = [max(seconds, 1e-3) for _, seconds, _, _ in rows]
    recovered = [max(seconds, 1e-3) for _, _, seconds, _ in rows]
    colors = ["C0" if kept else "C3" for *_, kept in rows]
    axes.hlines(places, outage, recovered, color="#8886", linewidth=1)
    axes.scatter(recovered, places, marker="|", color="#444", label="time to recover")
    axes.scatter(outage, places, color=colors, s=18, label="longest time without an answer (red: a promise broken)")
    axes.set_xscale("log")
    axes.set_yticks(places, [name for name, *_ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="#8886", linewidth=0.5)
    axes.set_xlabel("seconds")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2, frameon=False)
    figure.savefig(path, dpi=110)


def series(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: Path) -> None:
    """One panel for each unit, one line for each thing measured in it, over minutes."""
    figure = Figure(figsize=(8, 2.0 * len(panels)), layout="constrained")
    for axes, (unit, lines) in zip(
        figure.subplots(len(panels), 1, sharex=True, squeeze=False).flat, panels.items(), strict=True
    ):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
        axes.set_ylabel(unit)
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        axes.legend(fontsize=7, loc="upper left", ncols=4)
    axes.set_xlabel("minutes")
    figure.savefig(path, dpi=110)
