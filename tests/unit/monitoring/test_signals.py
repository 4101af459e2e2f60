"""What is watched of a prompt, and that the reference is no easier on itself than on what comes later."""

import math

import numpy as np

from lyrics_lm.monitoring import words
from lyrics_lm.monitoring.signals import SIGNALS, reference, signals
from lyrics_lm.records import TrafficRecord


def record(prompt, bits=2.0, unknown=0.0):
    return TrafficRecord(
        time=1.0,
        request="r",
        digest="d",
        prompt="",
        params={},
        text="",
        prompt_tokens=len(prompt),
        tokens=1,
        seconds=0.1,
        finish="stop",
        prompt_bits_per_char=bits,
        prompt_chars=len(prompt),
        unknown_share=unknown,
        prompt_words=words.buckets(prompt),
    )


def test_signals_need_no_text():
    """Numbers alone give all four; words that the reference knows cost fewer bits than others."""
    known = reference([record("love is all i know")] * 10)
    row = dict(zip(SIGNALS, signals(record("love is all", bits=1.5, unknown=0.25), known), strict=True))
    assert row["bits per character"] == 1.5
    assert row["unknown characters"] == 0.25
    assert row["length"] == 11
    strange = signals(record("quarks entangle photons"), known)[SIGNALS.index("words")]
    assert strange > row["words"]


def test_what_a_prompt_is_too_short_to_tell_is_nan():
    """An empty prompt has a length and nothing else."""
    row = signals(record("", bits=None), reference([]))
    assert row[SIGNALS.index("length")] == 0
    assert np.isnan(row).sum() == 3


def test_words_are_counted_from_one_part_of_the_reference_and_judged_on_the_other():
    """The part that was counted has no word signal, so that no prompt is compared with itself."""
    made = reference([record(f"word{number} sings") for number in range(10)])
    column = [row[SIGNALS.index("words")] for row in made.rows]
    assert column[:4] == [None] * 4
    assert None not in column[4:]
    assert made.array.shape == (10, len(SIGNALS))


def test_hashed_words_keep_neither_case_nor_order():
    """The same words in another order and case are the same numbers; a stranger's characters are no error."""
    assert words.buckets("Love is blind") == words.buckets("blind, LOVE is!")
    assert words.buckets("\ud800 half") is not None
    assert all(0 <= bucket < words.BUCKETS for bucket in words.buckets("a b c"))


def test_a_prompt_without_a_loss_tells_nothing_of_it():
    """A loss that is no number is no evidence."""
    assert math.isnan(signals(record("love", bits=math.inf), reference([]))[0])
