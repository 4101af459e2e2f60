import math

import numpy as np
import pytest

from lyrics_lm.evaluation.scoring import Scored
from lyrics_lm.evaluation.slices import KNOWN, NEW, REPEATED, UNKNOWN_TO_TRAINING, slices
from lyrics_lm.records import EvalReport, SlicesReport, from_json, to_json


def scored(texts, nats):
    """As a character tokenizer gives it: `nats` of each character."""
    report = EvalReport(
        "m",
        "test",
        tuple(f"song {place}" for place in range(len(texts))),
        tuple(float(sum(each)) for each in nats),
        tuple(map(len, texts)),
        tuple(map(len, texts)),
        (0,) * len(texts),
    )
    return Scored(report, [np.array(each, dtype=float) for each in nats], [np.arange(len(text)) for text in texts])


def flat(text, bits):
    return [bits * math.log(2)] * len(text)


def by_name(found, kind):
    return {one.name: one for one in found.slices if one.kind == kind}


def test_lines_are_told_apart():
    """New ones, those their song had before, those of a training song; each with its own score, line ends counted."""
    lines = {"something entirely new here": 4.0, "a line that training has too": 1.0}
    new, known = lines
    text = f"{new}\n{known}\n{new}"
    nats = flat(new + "\n", 4.0) + flat(known + "\n", 1.0) + flat(new, 0.5)
    found = slices(scored([text] * 8, [nats] * 8), [text] * 8, ["a"] * 8, lambda line: line == known)
    kinds = by_name(found, "lines")
    assert {name: one.bits_per_char for name, one in kinds.items()} == pytest.approx(
        {NEW: 4.0, KNOWN: 1.0, REPEATED: 0.5, UNKNOWN_TO_TRAINING: (4 * 28 + 0.5 * 27) / 55}
    )
    assert {name: one.chars for name, one in kinds.items()} == {
        NEW: 8 * 28,
        KNOWN: 8 * 29,
        REPEATED: 8 * 27,
        UNKNOWN_TO_TRAINING: 8 * 55,
    }
    assert found.overlap == pytest.approx(1 / 3)


def test_nothing_of_a_song_is_lost_or_counted_twice():
    """Lines and lengths each add up to the whole."""
    random = np.random.default_rng(0)
    texts = ["\n".join("ab" * int(random.integers(1, 20)) for _ in range(random.integers(1, 9))) for _ in range(20)]
    each = scored(texts, [random.exponential(size=len(text)) for text in texts])
    found = slices(each, texts, ["a", "b"] * 10, lambda line: False)
    for kind, names in (("lines", (NEW, REPEATED)), ("length", ("short", "middle", "long")), ("artist", ("a", "b"))):
        parts = [by_name(found, kind)[name] for name in names]
        assert sum(one.chars for one in parts) == sum(each.report.chars)
        bits = sum(one.bits_per_char * one.chars for one in parts)
        assert bits == pytest.approx(sum(each.report.bits))


def test_artists_come_worst_first_and_need_two_songs():
    """One song says little of its artist."""
    texts = ["some words of a song"] * 7
    bits = [1.0, 2.0, 3.0, 2.0, 1.0, 3.0, 9.0]
    names = ["low", "mid", "high", "mid", "low", "high", "once"]
    found = slices(scored(texts, [flat(t, b) for t, b in zip(texts, bits, strict=True)]), texts, names, lambda _: False)
    assert [one.name for one in found.slices if one.kind == "artist"] == ["high", "mid", "low"]
    assert all((one.low, one.high) == (None, None) for one in by_name(found, "artist").values())  # two tell no interval
    assert from_json(to_json(found), SlicesReport) == found
    assert all(one.songs == 2 for one in by_name(found, "artist").values())
