"""Kolmogorov and Smirnov's two-sample test over a window: has the last stretch of traffic another distribution?"""

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lyrics_lm.monitoring.detector import Finding, Rows

_WINDOW = 100
_EVERY = 20
_FEWEST = 30


class WindowedKs:
    """Idea: every 20 prompts, compare the last 100 with the reference, signal by signal.

    `false_alarm` is the chance of a false alarm at *one* look, over all signals (Bonferroni). Looked at for ever it
    gives a false alarm sooner or later: choose it for a look now and then, or for a shift that comes and goes,
    and `martingale.ConformalMartingale` where an alarm has consequences. `evidence` is `false_alarm` over the
    p-value; a finding's strength is 1 over the p-value. F. J. Massey, "The Kolmogorov-Smirnov Test for Goodness
    of Fit", Journal of the American Statistical Association 46 (1951); the test itself is scipy's.
    """

    def __init__(self, reference: Rows, signals: Sequence[str], *, false_alarm: float) -> None:
        self._signals = list(signals)
        self._reference = [column[np.isfinite(column)] for column in reference.T]
        self._level = false_alarm / max(1, len(self._signals))
        self._recent: deque[npt.NDArray[np.float64]] = deque(maxlen=_WINDOW)
        self._rows = 0
        self._evidence = 0.0
        self._finding: Finding | None = None

    def update(self, row: npt.NDArray[np.float64]) -> None:
        self._recent.append(row)
        self._rows += 1
        if self._rows % _EVERY == 0 and len(self._recent) == _WINDOW:
            self._look(np.array(self._recent))

    @property
    def evidence(self) -> float:
        return self._evidence

    @property
    def finding(self) -> Finding | None:
        return self._finding

    def _look(self, window: Rows) -> None:
        tests = [self._test(place, column[np.isfinite(column)]) for place, column in enumerate(window.T)]
        p, place, direction = min(tests)
        self._evidence = self._level / p
        if self._finding is None and p <= self._level:
            since = self._rows - _WINDOW
            self._finding = Finding(self._signals[place], direction, since, self._rows, 1 / p)

    def _test(self, place: int, values: npt.NDArray[np.float64]) -> tuple[float, int, str]:
        from scipy import stats  # takes seconds to import, and few choose this detector

        known = self._reference[place]
        if min(len(values), len(known)) < _FEWEST:
            return 1.0, place, "higher"
        p = float(stats.ks_2samp(values, known, method="asymp").pvalue)
        return max(p, 1e-300), place, "higher" if np.mean(values) > np.mean(known) else "lower"
