"""Progress of a training on a terminal: one bar, with loss, bits per character and time left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lyrics_lm import records

Show = Callable[[records.Progress | None], None]


@contextmanager
def bar(console: Console | None = None) -> Iterator[Show]:
    """A function that shows how far a training is; None takes the bar away. Silent off a terminal."""
    console = console or Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[scores]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", visible=False, scores="")

        def show(now: records.Progress | None) -> None:
            if now is None:
                progress.update(task, visible=False)
                return
            scores = f"loss {now.loss:.3f} · {now.bits_per_char:.3f} bits/char · {now.seconds_left:.0f} s left"
            progress.update(
                task,
                description=f"training {now.model}",
                total=now.steps,
                completed=now.step,
                scores=scores,
                visible=True,
            )

        yield show
