"""What a training leaves behind, and where. Needs no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lyrics_lm.records import StateSpec

RECORD = "model.json"
LOSSES = "losses.csv"


@dataclass(frozen=True)
class TrainedModel:
    """`model.json`: what an engine must know of a model that has no contract yet.

    `parameters` counts the numbers that were learned. `seeds` holds the last validation loss (nats per token) of
    each seed that was tried, and `seed` is the one kept; of a model that is counted there is none.
    """

    architecture: str
    vocab_size: int
    context: int
    state: tuple[StateSpec, ...]
    parameters: int
    seed: int | None = None
    seeds: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """Nats per token after a step; `validation` only where it was measured."""

    step: int
    train: float
    validation: float | None = None


def write_losses(path: Path, losses: Iterable[Loss]) -> None:
    """A CSV with the columns step, train, validation, as DVC plots it."""
    rows = (
        f"{loss.step},{loss.train:.5f},{'' if loss.validation is None else f'{loss.validation:.5f}'}" for loss in losses
    )
    path.write_text("\n".join(["step,train,validation", *rows]) + "\n")
