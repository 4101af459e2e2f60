"""The loop's own decisions, written down: what it retrained for, which alarms it answered, and how."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from lyrics_lm import durable
from lyrics_lm.records import from_json, to_json


@dataclass(frozen=True)
class Retraining:
    """One training that the loop began, by what it was made of, and its cause."""

    time: float
    inputs: str
    cause: str


@dataclass(frozen=True)
class Ledger:
    """`trainings`, oldest first; `by_itself`, inputs that the loop committed; `answered`, what was said to the alarm
    of a deployment; `reconsidered`, versions judged again for the alarm of a deployment; `learnt`, deployments whose
    drifted prompts became training text; `notified`, those whose alarm was passed on."""

    trainings: tuple[Retraining, ...] = ()
    by_itself: tuple[str, ...] = ()
    answered: dict[str, str] = field(default_factory=dict)
    reconsidered: dict[str, tuple[int, ...]] = field(default_factory=dict)
    learnt: tuple[str, ...] = ()
    notified: tuple[str, ...] = ()


def read(home: Path) -> Ledger:
    file = _path(home)
    return from_json(file.read_bytes(), Ledger) if file.is_file() else Ledger()


def write(home: Path, ledger: Ledger) -> None:
    durable.write(_path(home), to_json(ledger))


def trained(home: Path, entry: Retraining) -> None:
    """Note a training; one that is taken up after a kill stays one entry."""
    ledger = read(home)
    if not any(known.inputs == entry.inputs for known in ledger.trainings):
        write(home, replace(ledger, trainings=(*ledger.trainings, entry)))


def cause(home: Path, inputs: str) -> str | None:
    """Why the loop trained these inputs."""
    return next((entry.cause for entry in read(home).trainings if entry.inputs == inputs), None)


def _path(home: Path) -> Path:
    return home / "drift" / "ledger.json"
