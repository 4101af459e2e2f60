"""The report of a drill: as a table for the terminal, as Markdown, and as a page with its picture."""

import html
import time
from pathlib import Path

from rich.table import Table

from lyrics_lm import durable
from lyrics_lm.drill.drill import Report
from lyrics_lm.drill.fault import Outcome

HEAD = ("fault", "kept", "requests", "answered", "longest outage", "recovered", "records lost", "what was done")


def row(outcome: Outcome) -> tuple[str, ...]:
    """One line of the table."""
    if outcome.skipped:
        return (outcome.fault, "not tried", "", "", "", "", "", outcome.skipped)
    seen = outcome.window
    return (
        outcome.fault,
        "yes" if outcome.kept else "NO",
        f"{seen.requests:,}",
        f"{100 * seen.success:.2f}%",
        f"{seen.outage:.2f} s",
        f"{outcome.recovered:.1f} s",
        f"{outcome.lost:,}",
        "; ".join((*filter(None, (outcome.done,)), *outcome.wrong)) or seen.error,
    )


def table(report: Report) -> Table:
    """For the terminal."""
    made = Table(*HEAD, title_justify="left")
    for outcome in report.outcomes:
        style = "" if outcome.kept else "yellow" if outcome.skipped else "bold red"
        made.add_row(*row(outcome), style=style)
    return made


def markdown(report: Report) -> str:
    """For a document."""
    lines = [HEAD, ("---",) * len(HEAD), *(row(outcome) for outcome in report.outcomes)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def summary(report: Report) -> str:
    """One line about all of it."""
    tried = [outcome for outcome in report.outcomes if not outcome.skipped]
    kept = sum(outcome.kept for outcome in tried)
    requests = sum(outcome.window.requests for outcome in tried)
    failed = sum(outcome.window.failed for outcome in tried)
    return (
        f"{kept} of {len(tried)} faults kept every promise; {failed:,} of {requests:,} requests failed, "
        f"in {report.seconds / 60:.0f} minutes on {report.machine}"
    )


def progress(outcome: Outcome) -> str:
    """One line while it goes on."""
    return f"{outcome.fault}: {'not tried' if outcome.skipped else 'kept' if outcome.kept else 'NOT KEPT'}"


def picture(report: Report, path: Path) -> None:
    """Outage and recovery of each fault that was tried."""
    from lyrics_lm.steps import pictures

    tried = [outcome for outcome in report.outcomes if not outcome.skipped]
    rows = [(one.fault, one.window.outage, one.recovered, one.kept) for one in tried]
    pictures.outages(rows, path)


def write(report: Report, path: Path) -> None:
    """A page of its own, with the picture."""
    from lyrics_lm.steps import page as pages

    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.began))
    parts = [
        f"<h1>Drill of {when}</h1>",
        f'<p class="{"passed" if report.kept else "failed"}">{html.escape(summary(report))}</p>',
        f"<p>Against {html.escape(report.loop)}, at {report.rate:.0f} requests a second.</p>",
        pages.drawn(lambda file: picture(report, file)),
        pages.table(HEAD, [row(outcome) for outcome in report.outcomes]),
    ]
    durable.write(path, pages.page(f"Drill of {when}", parts).encode())
