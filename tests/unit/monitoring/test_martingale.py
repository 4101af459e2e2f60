"""That the martingale's alarms can be trusted, and that a game can be left and taken up."""

import numpy as np

from lyrics_lm.monitoring.martingale import ConformalMartingale

LEVEL = 0.01


def test_no_bet_is_in_the_gamblers_favour_but_for_the_chance_set_aside():
    """Over 1,000 references of uniform values, where odds are known exactly, the expected factor of every bet is at
    most 1; references where any is not are no more than a quarter of the allowed false alarms (and 3 sigma)."""
    random = np.random.default_rng(1)
    unfair = 0
    for _ in range(1000):
        detector = ConformalMartingale(random.random((500, 2)), ["one", "other"], false_alarm=LEVEL)
        border = detector._sign * detector._border
        beyond = np.where(detector._sign > 0, 1 - border, border)
        unfair += bool((beyond * detector._if_beyond + (1 - beyond) * detector._if_not > 1 + 1e-12).any())
    assert unfair <= 8


def test_false_alarms_stay_under_the_promise():
    """100 unshifted streams of 1,000 prompts, each looked at after every prompt, with ties and correlated signals."""
    alarms = 0
    for seed in range(100):
        rows = np.random.default_rng([1, seed]).normal(size=(1500, 3))
        rows[:, 1] = np.round(rows[:, 0] + rows[:, 1])
        rows[:, 2] = np.where(rows[:, 2] > 2, rows[:, 2], 0)
        detector = ConformalMartingale(rows[:500], ["a", "b", "c"], false_alarm=LEVEL)
        for row in rows[500:]:
            detector.update(row)
        alarms += detector.finding is not None
    assert alarms <= 4  # of a binomial with 1%, four or fewer in 99.7% of cases


def test_a_small_reference_costs_power_not_trust():
    """With 60 reference prompts no alarm comes of their unrepresentativeness."""
    for seed in range(40):
        rows = np.random.default_rng([2, seed]).normal(size=(1060, 2))
        detector = ConformalMartingale(rows[:60], ["a", "b"], false_alarm=LEVEL)
        for row in rows[60:]:
            detector.update(row)
        assert detector.finding is None


def test_a_game_left_goes_on_where_it_was():
    """Capital kept and taken up again gives what an uninterrupted game gives."""
    rows = np.random.default_rng(3).normal(size=(640, 2))
    rows[600:, 0] += 2.5
    through = ConformalMartingale(rows[:500], ["a", "b"], false_alarm=LEVEL)
    left = ConformalMartingale(rows[:500], ["a", "b"], false_alarm=LEVEL)
    for row in rows[500:602]:
        through.update(row)
        left.update(row)
    again = ConformalMartingale(rows[:500], ["a", "b"], false_alarm=LEVEL, capital=left.kept)
    for row in rows[602:]:
        through.update(row)
        again.update(row)
    assert again.finding == through.finding is not None
    assert again.capital == through.capital


def test_a_late_shift_is_still_found():
    """After 3,000 prompts as before, a strong shift is found within 30: bets begun late have weight."""
    random = np.random.default_rng(4)
    detector = ConformalMartingale(random.normal(size=(500, 1)), ["a"], false_alarm=LEVEL)
    for value in random.normal(size=3000):
        detector.update(np.array([value]))
    for value in random.normal(4, 1, size=30):
        detector.update(np.array([value]))
    assert 2990 <= detector.finding.since <= 3005
