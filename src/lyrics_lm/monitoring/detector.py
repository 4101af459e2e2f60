"""What every detector of drift answers to: rows of signals in, one after another, and a finding once they drifted."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]  # (prompts, signals); NaN where a prompt is too short for a signal


@dataclass(frozen=True)
class Finding:
    """A proved drift: by which signal, which way (`higher` or `lower`), from about which row on (0 is the first
    after the reference), seen after how many rows, and how strong (see the detector)."""

    signal: str
    direction: str
    since: int
    seen: int
    strength: float


class Detector(Protocol):
    """Compares rows with a reference that it was made with, and that never changes."""

    def update(self, row: npt.NDArray[np.float64]) -> None:
        """Look at one more prompt (signals)."""
        ...

    @property
    def evidence(self) -> float:
        """How much speaks for a drift now; at 1 the alarm is given."""
        ...

    @property
    def finding(self) -> Finding | None:
        """The first alarm; None while there was none. It stays."""
        ...
