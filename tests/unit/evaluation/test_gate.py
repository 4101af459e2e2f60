import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lyrics_lm.evaluation import gate
from lyrics_lm.records import EvalReport, GateResult


def quality(candidate, champion, bigram, **look):
    """The gate, where the n-gram is of no matter."""
    return gate.quality(candidate, champion, bigram, bigram, **look)


def report(bits, chars=None, *, model="m", split="test", songs=None, unknown=None):
    """A report whose song i costs `bits[i]` bits."""
    count = len(bits)
    return EvalReport(
        model=model,
        split=split,
        songs=tuple(songs or (f"song {place}" for place in range(count))),
        nats=tuple(float(each) * math.log(2) for each in bits),
        tokens=(100,) * count,
        chars=tuple(chars or (100,) * count),
        unknown=tuple(unknown or (0,) * count),
    )


SONG = st.tuples(
    st.floats(50, 500),  # bits of the worse model
    st.floats(0.01, 0.9),  # the part of them that the better one saves
    st.integers(20, 3000),  # characters
)
SPLIT = st.lists(SONG, min_size=7, max_size=40)


@given(SPLIT)
def test_fewer_bits_on_every_song_pass_and_the_swap_fails(songs):
    """A model that is better on every song replaces the other, and never the other way round."""
    chars = [each[2] for each in songs]
    worse = report([bits for bits, _, _ in songs], chars)
    better = report([bits * (1 - saved) for bits, saved, _ in songs], chars)
    assert quality(better, worse, worse).passed
    assert not quality(worse, better, worse).passed
    assert quality(better, None, worse).passed
    assert not quality(worse, None, better).passed


@given(SPLIT)
def test_a_model_never_replaces_itself(songs):
    """Equal reports are a tie: no promotion over a champion."""
    same = report([bits for bits, _, _ in songs], [chars for *_, chars in songs])
    assert not quality(same, same, same).passed


def test_the_bigram_passes_as_the_floor():
    """With no champion, the bigram itself may go live."""
    bigram = report([330] * 20)
    assert quality(bigram, None, bigram).passed


def test_a_tie_up_to_rounding_is_a_tie():
    """Noise of float32 neither promotes an equal model nor keeps the floor out."""
    one, other = report([330.0] * 20), report([330.0 + 1e-6] * 20)
    assert not quality(one, other, other).passed
    assert quality(other, None, one).passed


def test_the_difference_by_hand():
    """-50 bits on each song of 100 characters is -0.5 bits per character, without spread."""
    interval = gate.compare(report([250] * 8), report([300] * 8))
    assert (interval.difference, interval.low, interval.high) == pytest.approx((-0.5, -0.5, -0.5))


def test_long_songs_weigh_more():
    """The statistic is all bits over all characters: (-10 + 40) / (100 + 300), not a mean of ratios."""
    one = report([90, 640] * 4, [100, 300] * 4)
    other = report([100, 600] * 4, [100, 300] * 4)
    assert gate.compare(one, other).difference == pytest.approx(30 / 400)


def test_unknown_characters_are_paid_for():
    """A model whose tokenizer hides characters does not win by it: each costs 20 bits more."""
    honest, hiding = report([300] * 10), report([200] * 10, unknown=[10] * 10)
    assert not quality(hiding, honest, honest).passed
    assert quality(honest, hiding, honest).passed


def test_the_interval_is_the_bootstraps():
    """On 200 songs it is what scipy's percentile bootstrap finds, a little wider by the expansion."""
    random = np.random.default_rng(5)
    chars = random.integers(400, 2500, size=200)
    bits = chars * random.normal(2.1, 0.3, size=200)
    differences = chars * random.normal(-0.01, 0.1, size=200)
    interval = gate.compare(report(bits + differences, chars.tolist()), report(bits, chars.tolist()))
    expected = scipy.stats.bootstrap(
        (differences, chars),
        lambda d, c, axis: d.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = expected.high - expected.low
    assert interval.low == pytest.approx(expected.low, abs=0.05 * width)
    assert interval.high == pytest.approx(expected.high, abs=0.05 * width)


def test_noise_around_zero_is_not_promoted():
    """Of equal models with noisy losses, about one in forty is taken for better, not more."""
    random = np.random.default_rng(11)
    promoted = 0
    for _ in range(400):
        bits = random.normal(2500, 400, size=60)
        noisy = report(bits + random.normal(0, 30, size=60))
        promoted += quality(noisy, report(bits), report(bits)).passed
    assert promoted <= 20  # 10 are expected; more than 20 has probability 0.002


@pytest.mark.parametrize("count", [1, 6])
def test_too_few_songs_prove_nothing(count):
    """With six songs or fewer even a model better on all of them is not promoted, and the reason says so."""
    better, worse = report([100] * count), report([300] * count)
    result = quality(better, worse, worse)
    assert not result.passed
    assert f"{count} test songs cannot show a difference, at least 7 are needed" in result.reason
    assert quality(worse, None, worse).passed


def test_reports_of_other_songs_are_refused():
    """Scores compare only on the same songs of the same split."""
    one = report([300] * 6)
    others = (
        report([300] * 6, songs=[*"abcdef"]),
        report([300] * 7),
        report([300] * 6, split="validation"),
        report([300] * 6, chars=[90] * 6),
    )
    for other in others:
        with pytest.raises(ValueError, match="not the same songs"):
            quality(one, other, other)
        with pytest.raises(ValueError, match="not the same songs"):
            quality(one, None, other)


def test_songs_without_characters_are_refused():
    with pytest.raises(ValueError, match="hold no characters"):
        gate.compare(report([1] * 6, [0] * 6), report([2] * 6, [0] * 6))


def test_losses_that_are_no_numbers_never_pass():
    """A candidate with an infinite or undefined loss is rejected."""
    champion = report([300] * 10)
    for value in (math.inf, math.nan):
        broken = dataclasses.replace(champion, nats=(value, *champion.nats[1:]))
        assert not quality(broken, champion, champion).passed
        assert not quality(broken, None, champion).passed


def test_quality_speaks_to_a_person():
    """Observed, threshold and reason read as sentences with both numbers."""
    result = quality(report([213] * 8), report([334] * 8), report([350] * 8))
    assert result.observed == "-1.210 [-1.210, -1.210] bits per character on 8 songs"
    assert result.threshold == "97.5% interval of the difference to the champion's below 0 (its 1st challenger)"
    assert result.reason == "2.130 bits per character against the champion's 3.340"
    worse = quality(report([334] * 8), None, report([213] * 8))
    assert worse.reason == "3.340 bits per character against the bigram's 2.130 (m: 2.130); it is worse"


def test_the_same_reports_give_the_same_verdict():
    """The resampling is seeded."""
    random = np.random.default_rng(0)
    one, other = report(random.normal(300, 9, 50)), report(random.normal(301, 9, 50))
    assert quality(one, other, other) == quality(one, other, other)


def test_latency_is_a_ratio_with_a_limit():
    """At the limit passes, above it fails with both times; without a champion there is no limit."""
    assert gate.latency(2.0, 1.0, 2.0).passed
    slow = gate.latency(2.1, 1.0, 2.0)
    assert not slow.passed
    assert slow.reason == (
        "2.10 ms per token, 2.10 times the champion's 1.00; at most 2 times is allowed (gates.latency_ratio)"
    )
    assert gate.latency(1e9, None, 2.0).passed


def test_size_is_in_megabytes():
    """A bundle of exactly the limit passes; one byte more fails and says which setting says so."""
    assert gate.size(2_000_000, 2).passed
    large = gate.size(2_000_001, 2)
    assert not large.passed
    assert "at most 2 MB is allowed (gates.size_mb)" in large.reason


def test_a_verdict_passes_only_if_every_gate_does():
    """One failing gate rejects the version, and its reason is the verdict's."""
    good, bad = GateResult("size", True, "", "", "small"), GateResult("latency", False, "", "", "slow")
    assert gate.judge("d", None, 1.0, (good,)).passed
    verdict = gate.judge("d", "c", 1.0, (good, bad))
    assert (verdict.passed, verdict.reason, verdict.digest, verdict.champion) == (False, "slow", "d", "c")
    with pytest.raises(ValueError, match="at least one gate"):
        gate.judge("d", None, 1.0, ())


def test_all_looks_together_cost_no_more_than_one_would():
    """A champion's challengers share the 2.5%: each gets less than the one before, and there is always some left."""
    levels = [gate.level(look) for look in range(1, 5000)]
    assert all(one > other > 0 for one, other in itertools.pairwise(levels))
    assert 0.024 < sum(levels) <= 0.025


def test_two_hundred_equal_challengers_do_not_wear_a_champion_down():
    """Over 60 champions, each with 200 challengers that are no better, about one in forty is ever replaced;
    without the sharing nearly all would be."""
    random = np.random.default_rng(7)
    replaced = careless = 0
    for _ in range(60):
        bits = random.normal(2500, 400, size=40)
        noises = random.normal(0, 30, size=(200, 40))
        # The two that look best are the only ones that a gate could take for better.
        likeliest = np.argsort(noises.mean(axis=1) / noises.std(axis=1))[:2]
        challengers = [(int(place) + 1, report(bits + noises[place])) for place in likeliest]
        replaced += any(quality(one, report(bits), report(bits), look=look).passed for look, one in challengers)
        careless += any(quality(one, report(bits), report(bits)).passed for _, one in challengers)
    assert replaced <= 5  # 1.5 are expected; more than 5 has probability 0.004
    assert careless > 50


def test_a_clearly_better_challenger_passes_after_many_looks():
    """The level shrinks, and what is better by far still gets through."""
    random = np.random.default_rng(9)
    bits = random.normal(2500, 400, size=60)
    better = report(bits * 0.97 + random.normal(0, 10, size=60))
    assert quality(better, report(bits), report(bits), look=200).passed


def test_the_verdict_says_which_look_it_was():
    """How many challengers a champion had, and the level that is left for this one."""
    result = quality(report([213] * 80), report([334] * 80), report([350] * 80), look=3)
    assert "its 3rd challenger" in result.threshold
    assert "99.5833%" in result.threshold


def test_the_first_champion_is_told_where_the_ngram_stands():
    """The bigram is the floor; the reason names what a trained model has to beat."""
    one, ngram = report([200] * 8), report([160] * 8, model="5-gram")
    result = gate.quality(one, None, report([340] * 8), ngram)
    assert result.passed
    assert "(5-gram: 1.600)" in result.reason


def test_a_score_has_an_interval():
    """Over songs: a mean between its bounds, which close in as songs come."""
    random = np.random.default_rng(2)
    few, many = (gate.spread(report(random.normal(200, 40, size=count))) for count in (20, 2000))
    assert few.low < 2 < few.high
    assert many.high - many.low < (few.high - few.low) / 5
