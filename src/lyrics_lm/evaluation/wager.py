"""Evidence on a mean that may be looked at after every observation: a gambler's capital.

Idea: to doubt that the mean of bounded observations is at most m, bet on it. A stake s turns a capital of 1 into
the product of 1 + s (x - m), which in expectation never grows while the mean is at most m; so it ever reaches 1/a
with probability at most a (Ville's inequality), however often it is looked at and whenever one stops. This is the
hedged capital of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the
Royal Statistical Society B 86 (2024), section 4 (arXiv 2010.09686), for one side, with a mixture of fixed stakes in
place of their predicted one: the stake that turns out right soon outweighs the rest.

Assumes that each observation has, given those before it, a mean of at most m where m holds: independent draws do, and
so do draws whose law changes but keeps its mean. The same prompt sent a hundred times is one observation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_STAKES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # of the largest that can lose no more than all


@dataclass(frozen=True)
class Wager:
    """A game against "the mean is at most `mean`", of observations from `low` up. `logs` holds the logarithm of the
    capital of each stake, `best` that of the largest that all together ever were."""

    mean: float
    low: float
    logs: tuple[float, ...] = (0.0,) * len(_STAKES)
    best: float = 0.0

    @property
    def capital(self) -> float:
        """All stakes together, 1 at the start."""
        return float(np.exp(np.minimum(_together(np.array(self.logs)), 300.0)))

    def proves(self, level: float) -> bool:
        """Whether the mean was ever shown to lie above, with a chance of error of at most `level`."""
        return self.best >= -math.log(level)


def after(wager: Wager, observations: Sequence[float] | npt.NDArray[np.float64]) -> Wager:
    """The game after these observations, which come in this order."""
    values = np.asarray(observations, dtype=np.float64)
    if not len(values):
        return wager
    largest = 1 / (wager.mean - wager.low)
    gains = np.log1p(np.outer(values - wager.mean, np.array(_STAKES) * largest))
    path = np.array(wager.logs) + np.cumsum(gains, axis=0)
    best = max(wager.best, float(_together(path).max()))
    return Wager(wager.mean, wager.low, tuple(path[-1].tolist()), best)


def _together(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The logarithm of the mean capital over the stakes (..., S)."""
    mean: npt.NDArray[np.float64] = np.logaddexp.reduce(logs, axis=-1) - np.log(len(_STAKES))
    return mean
