"""A conformal test martingale against a fixed, finite reference: evidence that may be looked at for ever.

Idea: a gambler starts with 1 and bets, prompt by prompt, that one lies further out than the reference says. If
nothing drifted no game favours him, so his capital ever reaches 1/a with probability at most a (Ville's inequality;
Vovk et al., "Retrain or not retrain: conformal test martingales for change-point detection", arXiv 2102.10439).
What he wins is therefore proof at any time, however often it is looked at.

The usual martingale adds each prompt to the reference, and so learns the drift as if it were normal. This one
compares with a fixed reference and pays for its finiteness, as Shaer, Bar, Prinster and Romano propose ("Testing For
Distribution Shifts with Conditional Conformal Test Martingales", arXiv 2602.13848, abstract: valid conditional on the
reference by accounting for its estimation error): the odds are not those of the reference but the worst that are
compatible with it. How this accounts for it is its own: it bounds the few tail probabilities that are bet on, each
exactly. The share of prompts strictly beyond the (r+1)-th outermost of n
reference values is at most Beta(r + 1, n - r) in distribution, whatever the signal's law, ties included. All bounds
hold at once but for a chance of `_BOUNDS_SHARE` of the allowed false alarms; the rest is left to the game.

Bets: on each side of each signal, at several cuts, at several stakes, begun at every prompt: a mixture with fixed
weights, which is again a fair game. The stake that turns out right soon outweighs the rest, and a drift that comes
late is met by bets begun late.

Assumes that reference and later prompts are independent draws from one law. Prompts that come in bursts from one
person break that: then a longer reference, or a look at each person's first prompt only, is the remedy. Choose
`window.WindowedKs` instead to see a passing difference between two stretches of traffic, or when a look every few
hundred prompts is enough and a false alarm now and then costs nothing. No detector sees a drift smaller than
what a finite reference leaves open (about 0.1 in distribution function at 500 prompts).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lyrics_lm.monitoring.detector import Finding, Rows

_BOUNDS_SHARE = 0.25
_CUTS = (0.0, 0.01, 0.03, 0.1, 0.25, 0.5)  # share of the reference that lies beyond
_STAKES = (0.1, 0.35, 0.75)
_FEWEST = 30  # reference values of a signal, with fewer of which it is not bet on
_PATIENCE = 100  # prompts: bets begun at prompt t have the weight _PATIENCE / ((_PATIENCE + t) (_PATIENCE + t + 1))
_ENOUGH = 1e30

Numbers = npt.NDArray[np.float64]


@dataclass
class Capital:
    """What a martingale knows beyond its reference: rows seen, the capital of each bet, and for each the row
    since which it has won, with the logarithm of what it won."""

    rows: int
    bets: list[float]
    since: list[int]
    won: list[float]


class ConformalMartingale:
    """`evidence` is the capital over what proves a drift; a finding's strength is the capital then.

    >>> reference = np.random.default_rng(1).normal(size=(500, 1))
    >>> detector = ConformalMartingale(reference, ["length"], false_alarm=0.01)
    >>> for value in np.random.default_rng(2).normal(3, 1, size=20):
    ...     detector.update(np.array([value]))
    >>> detector.finding.signal, detector.finding.direction
    ('length', 'higher')
    """

    def __init__(
        self, reference: Rows, signals: Sequence[str], *, false_alarm: float, capital: Capital | None = None
    ) -> None:
        """`capital` takes up a game that was left."""
        self._signals = list(signals)
        self._proof = proof(false_alarm)
        games = [
            (place, sign, cut)
            for place in range(len(self._signals))
            for sign in (1.0, -1.0)
            for cut in _CUTS
            if np.isfinite(reference[:, place]).sum() >= _FEWEST
        ]
        self._place = np.array([place for place, _, _ in games], dtype=np.int64)
        self._sign = np.array([sign for _, sign, _ in games])
        each = false_alarm * _BOUNDS_SHARE / max(1, len(games))
        edges = [_edge(sign * reference[:, place], cut, each) for place, sign, cut in games]
        self._border = np.array([border for border, _ in edges])
        bounds = np.array([bound for _, bound in edges])
        stakes = np.array(_STAKES)[:, None]
        self._if_beyond = 1 - stakes + stakes / bounds  # (stakes, games)
        self._if_not = np.broadcast_to(1 - stakes, self._if_beyond.shape)
        shape = self._if_beyond.shape
        start = capital or Capital(0, [0.0] * math.prod(shape), [0] * math.prod(shape), [0.0] * math.prod(shape))
        self.rows = start.rows
        self._bets = np.array(start.bets).reshape(shape)
        self._since = np.array(start.since, dtype=np.int64).reshape(shape)
        self._won = np.array(start.won).reshape(shape)
        self._finding: Finding | None = None

    def update(self, row: Numbers) -> None:
        values = row[self._place]
        beyond = self._sign * values > self._border  # (games); never for NaN
        factors = np.where(beyond, self._if_beyond, self._if_not)
        factors[:, np.isnan(values)] = 1.0
        self._bets = np.minimum((self._bets + self._begun(self.rows) / max(1, factors.size)) * factors, _ENOUGH)
        self._since[self._won <= 0] = self.rows
        self._won = np.maximum(self._won, 0) + np.log(factors)
        self.rows += 1
        if self._finding is None and self.capital >= self._proof:
            self._finding = self._found()

    @property
    def capital(self) -> float:
        """What the gambler has: all bets, and what is kept for bets yet to begin."""
        return float(self._bets.sum()) + _PATIENCE / (_PATIENCE + self.rows)

    @property
    def evidence(self) -> float:
        return self.capital / self._proof

    @property
    def finding(self) -> Finding | None:
        return self._finding

    @property
    def kept(self) -> Capital:
        """All that it takes to go on later."""
        return Capital(self.rows, *(part.ravel().tolist() for part in (self._bets, self._since, self._won)))

    @staticmethod
    def _begun(row: int) -> float:
        """Share of the first capital that is put to work at this row; over all rows they add up to 1."""
        return _PATIENCE / ((_PATIENCE + row) * (_PATIENCE + row + 1))

    def _found(self) -> Finding:
        by_side = self._bets.sum(axis=0)
        signals = [by_side[self._place == place].sum() for place in range(len(self._signals))]
        place = int(np.argmax(signals))
        masked = np.where(self._place == place, self._bets, -1.0)
        stake, game = np.unravel_index(int(np.argmax(masked)), masked.shape)
        direction = "higher" if self._sign[game] > 0 else "lower"
        since = int(self._since[stake, game])
        return Finding(self._signals[place], direction, since, self.rows, self.capital)


def proof(false_alarm: float) -> float:
    """The capital that proves a drift."""
    return 1 / (false_alarm * (1 - _BOUNDS_SHARE))


def _edge(values: Numbers, cut: float, chance: float) -> tuple[float, float]:
    """The value beyond which at most a share `cut` of the reference lies, and the most that the share of all prompts
    strictly beyond it can be, but for `chance`."""
    known = np.sort(values[np.isfinite(values)])
    beyond = int(cut * len(known))
    bound = float(special.betaincinv(beyond + 1, len(known) - beyond, 1 - chance))
    return float(known[len(known) - 1 - beyond]), bound
