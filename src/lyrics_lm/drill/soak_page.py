"""The report of a soak: as a table for the terminal, as Markdown, and as a page with its curves."""

import html
import time
from pathlib import Path

from rich.table import Table

from lyrics_lm import durable
from lyrics_lm.drill.soak import Soak, lines

HEAD = ("measure", "once warm", "at the end")
_UNITS = {"memory": "MB of memory", "files": "open files", "disk": "MB on disk", "ms": "milliseconds"}


def rows(seen: Soak) -> list[tuple[str, ...]]:
    """What each measure was, in its medians over the second quarter and over the last."""
    return [(name, f"{early:,.1f}", f"{late:,.1f}") for name, (early, late) in seen.growth().items()]


def table(seen: Soak) -> Table:
    """For the terminal."""
    made = Table(*HEAD)
    for row in rows(seen):
        made.add_row(*row)
    return made


def markdown(seen: Soak) -> str:
    """For a document."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (HEAD, ("---",) * len(HEAD), *rows(seen))) + "\n"


def summary(seen: Soak) -> str:
    """One line about all of it."""
    done = ", ".join(f"{count} times {name}" for name, count in seen.events.items())
    wrong = "; ".join(seen.wrong) or "all is right at the end"
    return (
        f"{seen.window.failed:,} of {seen.window.requests:,} requests failed in {seen.seconds / 60:.0f} minutes "
        f"({done}); {seen.lost} records lost; {wrong}"
    )


def curves(seen: Soak, path: Path) -> None:
    """Memory, files, disk and milliseconds over the minutes."""
    from lyrics_lm.steps import pictures

    minutes = [one.seconds / 60 for one in seen.moments]
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, values in lines(seen.moments).items():
        unit = next(unit for key, unit in _UNITS.items() if key in name)
        panels.setdefault(unit, {})[name.split(" (")[0]] = list(zip(minutes, values, strict=True))
    pictures.series(panels, path)


def write(seen: Soak, path: Path) -> None:
    """A page of its own, with the curves."""
    from lyrics_lm.steps import page as pages

    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(seen.began))
    parts = [
        f"<h1>Soak of {when}</h1>",
        f'<p class="{"passed" if seen.kept else "failed"}">{html.escape(summary(seen))}</p>',
        pages.drawn(lambda file: curves(seen, file)),
        pages.table(HEAD, rows(seen)),
    ]
    durable.write(path, pages.page(f"Soak of {when}", parts).encode())
