import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from lyrics_lm.evaluation import gate
from lyrics_lm.records import EvalReport, GateResult


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
SPLIT = st.lists(SONG, min_size=6, max_size=40)


@given(SPLIT)
def test_fewer_bits_on_every_song_pass_and_the_swap_fails(songs):
    """A model that is better on every song replaces the other, and never the other way round."""
    chars = [each[2] for each in songs]
    worse = report([bits for bits, _, _ in songs], chars)
    better = report([bits * (1 - saved) for bits, saved, _ in songs], chars)
    assert gate.quality(better, worse, worse).passed
    assert not gate.quality(worse, better, worse).passed
    assert gate.quality(better, None, worse).passed
    assert not gate.quality(worse, None, better).passed


@given(SPLIT)
def test_a_model_never_replaces_itself(songs):
    """Equal reports are a tie: no promotion over a champion."""
    same = report([bits for bits, _, _ in songs], [chars for *_, chars in songs])
    assert not gate.quality(same, same, same).passed


def test_the_bigram_passes_as_the_floor():
    """With no champion, the bigram itself may go live."""
    bigram = report([330] * 20)
    assert gate.quality(bigram, None, bigram).passed


def test_a_tie_up_to_rounding_is_a_tie():
    """Noise of float32 neither promotes an equal model nor keeps the floor out."""
    one, other = report([330.0] * 20), report([330.0 + 1e-6] * 20)
    assert not gate.quality(one, other, other).passed
    assert gate.quality(other, None, one).passed


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
    assert not gate.quality(hiding, honest, honest).passed
    assert gate.quality(honest, hiding, honest).passed


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
        promoted += gate.quality(noisy, report(bits), report(bits)).passed
    assert promoted <= 20  # 10 are expected; more than 20 has probability 0.002


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_songs_prove_nothing(count):
    """With five songs or fewer even a model better on all of them is not promoted, and the reason says so."""
    better, worse = report([100] * count), report([300] * count)
    result = gate.quality(better, worse, worse)
    assert not result.passed
    assert f"{count} test songs cannot show a difference, at least 6 are needed" in result.reason
    assert gate.quality(worse, None, worse).passed


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
            gate.quality(one, other, other)
        with pytest.raises(ValueError, match="not the same songs"):
            gate.quality(one, None, other)


def test_songs_without_characters_are_refused():
    with pytest.raises(ValueError, match="hold no characters"):
        gate.compare(report([1] * 6, [0] * 6), report([2] * 6, [0] * 6))


def test_losses_that_are_no_numbers_never_pass():
    """A candidate with an infinite or undefined loss is rejected."""
    champion = report([300] * 10)
    for value in (math.inf, math.nan):
        broken = dataclasses.replace(champion, nats=(value, *champion.nats[1:]))
        assert not gate.quality(broken, champion, champion).passed
        assert not gate.quality(broken, None, champion).passed


def test_quality_speaks_to_a_person():
    """Observed, threshold and reason read as sentences with both numbers."""
    result = gate.quality(report([213] * 8), report([334] * 8), report([350] * 8))
    assert result.observed == "-1.210 [-1.210, -1.210] bits per character on 8 songs"
    assert result.threshold == "95% interval of the difference to the champion's below 0"
    assert result.reason == "2.130 bits per character against the champion's 3.340"
    worse = gate.quality(report([334] * 8), None, report([213] * 8))
    assert worse.reason == "3.340 bits per character against the bigram's 2.130; it is worse"


def test_the_same_reports_give_the_same_verdict():
    """The resampling is seeded."""
    random = np.random.default_rng(0)
    one, other = report(random.normal(300, 9, 50)), report(random.normal(301, 9, 50))
    assert gate.quality(one, other, other) == gate.quality(one, other, other)


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
