"""When the loop retrains by itself: each answer once, in order of what helps most."""

import dataclasses

from lyrics_lm.monitoring.trigger import Situation, decide

CALM = Situation(
    due=False,
    by_itself=False,
    corpus="c0ffee",
    alarm=None,
    reconsider=None,
    prompts=False,
    since_last=None,
    cooldown=60,
)


def action(**changes):
    return decide(dataclasses.replace(CALM, **changes)).action


def test_nothing_new_is_no_reason():
    """Without a new commit or an alarm nothing happens."""
    assert action() == "rest"


def test_a_persons_commit_is_trained_at_once():
    """No cooldown stands between a person and the training of a commit."""
    assert action(due=True, since_last=1) == "train"


def test_new_songs_wait_for_the_cooldown():
    """What the loop took in by itself is trained, but not again and again."""
    assert action(due=True, by_itself=True, since_last=1) == "rest"
    assert action(due=True, by_itself=True, since_last=61) == "train"


def test_an_alarm_with_new_songs_trains_at_once_and_says_why():
    """Songs at hand answer an alarm without delay; both causes are told."""
    decision = decide(dataclasses.replace(CALM, due=True, by_itself=True, since_last=1, alarm="drift in words"))
    assert decision.action == "train"
    assert "drift in words" in decision.cause
    assert "c0ffee" in decision.cause


def test_an_alarm_is_answered_by_what_is_at_hand_in_order():
    """First a version turned down before, then the prompts where allowed, at last words."""
    assert action(alarm="drift", reconsider=4, prompts=True) == "judge again"
    assert action(alarm="drift", prompts=True) == "learn from traffic"
    assert action(alarm="drift", prompts=True, since_last=1) == "rest"
    assert action(alarm="drift") == "tell"
