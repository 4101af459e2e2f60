"""The verdict on a version on trial: how often it errs, and what it says of what it was told."""

from dataclasses import replace

import numpy as np
import pytest

from lyrics_lm.evaluation import trial
from lyrics_lm.evaluation.wager import Wager, after

POLICY = trial.Policy(max_errors=0.01, slower=3.0, max_pace=50.0, decide_within=100.0, undecided="hold", approval=False)
RUNS, PROMPTS = 400, 1000


def began(share=5, policy=POLICY):
    return trial.begin("id", "champion", "challenger", 0.0, share, policy)


def told(share=5, difference=0.0, prompts=0, answers=0, failed=0, policy=POLICY):
    """A trial with so much evidence; differences vary around their mean."""
    spread = np.random.default_rng(1).normal(0, 0.2, size=prompts)
    centred = spread - (spread.mean() if prompts else 0)
    found = trial.compared(began(share, policy), range(prompts), difference + centred)
    return trial.answered(found, [True] * failed + [False] * (answers - failed), [], [])


@pytest.mark.parametrize("mean", [0.0, 0.01])
def test_no_better_is_seldom_proved_better(mean):
    """Looked at after every prompt, over many trials: at most as often as promised. Skewed as real ones are."""
    draws = np.random.default_rng(0).gamma(2.0, 0.1, size=(RUNS, PROMPTS)) - 0.2 + mean
    wins = sum(after(Wager(0.0, -1.0), -np.clip(run, -1, 1)).proves(trial.LEVEL) for run in draws)
    assert wins <= RUNS * trial.LEVEL


def test_what_is_better_is_found():
    """A twentieth of a bit on prompts that differ by a fifth: in at least nine of ten trials of 1,000 prompts."""
    draws = np.random.default_rng(0).normal(-0.05, 0.2, size=(RUNS, PROMPTS))
    wins = sum(after(Wager(0.0, -1.0), -np.clip(run, -1, 1)).proves(trial.LEVEL) for run in draws)
    assert wins >= 0.9 * RUNS


def test_a_game_left_and_taken_up_is_the_same_game():
    """In whatever pieces the observations come."""
    values = np.random.default_rng(0).normal(0.02, 0.2, size=500)
    pieces = Wager(0.0, -1.0)
    for part in np.split(values, [3, 50, 51, 400]):
        pieces = after(pieces, part)
    whole = after(Wager(0.0, -1.0), values)
    assert pieces.best == pytest.approx(whole.best)
    assert pieces.capital == pytest.approx(whole.capital)
    assert after(whole, []) == whole


@pytest.mark.parametrize(
    ("found", "action", "share", "says"),
    [
        (told(), "hold", 5, "not enough evidence yet"),
        (told(answers=20), "widen", 25, "25% of clients"),
        (told(share=25, answers=20), "hold", 25, "not enough evidence yet"),
        (told(difference=-0.1, prompts=600, answers=20), "widen", 25, "-0.1000 bits per character on 600 prompts"),
        (told(difference=-0.1, prompts=600, answers=3), "hold", 5, ""),
        (told(share=25, difference=-0.1, prompts=600, answers=20), "promote", 100, "proved better"),
        (told(share=0, difference=-0.1, prompts=600), "promote", 100, "proved better"),
        (told(share=0, answers=20), "hold", 0, ""),
        (told(difference=0.1, prompts=600), "abort", 0, "proved worse: +0.1000 bits"),
        (told(difference=-0.1, prompts=600, answers=20, failed=2), "abort", 0, "2 of 20 answers failed"),
        (replace(told(), restarts=3), "abort", 0, "died 3 times"),
    ],
)
def test_the_decision_follows_the_evidence(found, action, share, says):
    """Faults first, then what is worse, then what is better at each stage."""
    decision = trial.decide(found, 10.0, POLICY)
    assert (decision.action, decision.share) == (action, share)
    assert says in decision.reason


def test_one_failure_among_many_is_no_fault():
    """A budget of one in a hundred is not broken by one in two hundred."""
    assert trial.fault(told(answers=200, failed=1), POLICY) is None


def test_a_slow_challenger_is_sent_away():
    """More than three times as long per token, over twenty answers of each; fewer tell nothing."""
    few = trial.answered(began(), [False] * 19, [9.0] * 19, [1.0] * 40)
    assert trial.fault(few, POLICY) is None
    enough = trial.answered(few, [False], [9.0], [])
    assert "9.0 times as long per token" in trial.fault(enough, POLICY)


def test_what_took_over_is_held_to_its_own_time_alone():
    """The champion answered at other times, perhaps on an idle machine: only the limit counts."""
    found = trial.answered(began(share=100), [False] * 30, [40.0] * 30, [1.0] * 40)
    assert trial.fault(found, POLICY) is None
    slow = trial.answered(found, [False] * 40, [60.0] * 40, [])
    assert "it takes 60 ms per token, and 50 ms is the most" in trial.fault(slow, POLICY)


@pytest.mark.parametrize(("undecided", "share"), [("hold", 25), ("promote", 100), ("abort", 0)])
def test_a_trial_that_tells_nothing_ends_as_agreed(undecided, share):
    """After its time, not before."""
    policy = replace(POLICY, undecided=undecided)
    found = told(share=25, prompts=50, answers=30, policy=policy)
    assert trial.decide(found, 99.0, policy).action == "hold"
    assert trial.decide(found, 101.0, policy).share == share


def test_a_person_may_have_the_last_word():
    """What is proved better waits; what is proved worse does not."""
    policy = replace(POLICY, approval=True)
    decision = trial.decide(told(share=25, difference=-0.1, prompts=600, answers=20), 10.0, policy)
    assert decision.action == "hold"
    assert "waits for `lyrics-lm promote`" in decision.reason
    assert trial.decide(told(difference=0.1, prompts=600), 10.0, policy).action == "abort"
