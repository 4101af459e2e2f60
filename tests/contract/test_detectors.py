"""What every detector of drift must do, whichever statistics it uses."""

import numpy as np
import pytest

from lyrics_lm.monitoring.martingale import ConformalMartingale
from lyrics_lm.monitoring.window import WindowedKs

SIGNALS = ["bits", "length", "words"]
LEVEL = 0.001


@pytest.fixture(params=[ConformalMartingale, WindowedKs])
def make(request):
    """A detector over a reference of 500 normal rows."""

    def make(reference=None):
        rows = normal(500, seed=1) if reference is None else reference
        return request.param(rows, SIGNALS, false_alarm=LEVEL)

    return make


def normal(count, seed, shift=0.0, signal=0):
    rows = np.random.default_rng(seed).normal(size=(count, len(SIGNALS)))
    rows[:, signal] += shift
    return rows


def watch(detector, rows):
    for row in rows:
        detector.update(row)
    return detector.finding


def test_rows_like_the_reference_are_no_drift(make):
    """What looks as before gives no alarm."""
    detector = make()
    assert watch(detector, normal(1000, seed=2)) is None
    assert detector.evidence < 1


@pytest.mark.parametrize(("signal", "shift", "direction"), [(0, 3, "higher"), (2, -3, "lower")])
def test_a_strong_shift_is_found_and_named(make, signal, shift, direction):
    """The finding names the signal, the side and about where it began."""
    detector = make()
    watch(detector, normal(300, seed=3))
    finding = watch(detector, normal(200, seed=4, shift=shift, signal=signal))
    assert (finding.signal, finding.direction) == (SIGNALS[signal], direction)
    assert 200 <= finding.since <= 310
    assert 300 < finding.seen <= 500
    assert detector.evidence >= 1


def test_a_finding_stays(make):
    """Once proved, it is not taken back when prompts are again as before."""
    detector = make()
    finding = watch(detector, normal(200, seed=5, shift=3))
    assert finding is not None
    assert watch(detector, normal(300, seed=6)) == finding


def test_what_cannot_be_told_is_no_evidence(make):
    """Prompts too short for any signal prove nothing."""
    assert watch(make(), np.full((300, 3), np.nan)) is None


def test_a_signal_the_reference_says_nothing_of_is_not_judged(make):
    """Without reference values there is no drift in that signal, and the others are still watched."""
    reference = normal(500, seed=1)
    reference[:, 1] = np.nan
    assert watch(make(reference), normal(200, seed=7, shift=9, signal=1)) is None
    assert watch(make(reference), normal(200, seed=8, shift=4, signal=0)).signal == "bits"


def test_values_that_tie_are_no_drift(make):
    """A signal with one value throughout, such as no unknown characters, stays quiet until it moves."""
    reference = normal(500, seed=1)
    reference[:, 2] = 0
    detector = make(reference)
    same = normal(500, seed=9)
    same[:, 2] = 0
    assert watch(detector, same) is None
    moved = normal(200, seed=10)
    moved[:, 2] = np.random.default_rng(1).random(200) < 0.5
    assert watch(detector, moved).signal == "words"


def test_the_same_rows_give_the_same_finding(make):
    """Nothing is left to chance."""
    rows = normal(200, seed=11, shift=2)
    assert watch(make(), rows) == watch(make(), rows)
