"""The monitor from its first record to an alarm, its report, and that it can be left at any record."""

import dataclasses
import time

import numpy as np

from lyrics_lm.monitoring import lacking, words
from lyrics_lm.monitoring.monitor import Monitor, given, observe, unlike
from lyrics_lm.monitoring.picture import page
from lyrics_lm.monitoring.report import describe, report
from lyrics_lm.records import TrafficRecord, from_json, to_json

FRESH = Monitor("deployment", "digest", 0.0, false_alarm=0.01, size=100)
SONGS = [
    "love",
    "is",
    "all",
    "i",
    "know",
    "and",
    "the",
    "night",
    "goes",
    "on",
    "until",
    "you",
    "come",
    "home",
    "to",
    "me",
    "again",
]
OTHERS = ["la", "noche", "larga", "sigue", "hasta", "que", "vuelves", "conmigo", "otra", "vez", "amor", "mio"]


def records(count, seed, bits=2.0, vocabulary=SONGS, start=0):
    random = np.random.default_rng(seed)
    made = []
    for number in range(start, start + count):
        prompt = " ".join(random.choice(vocabulary, size=5))
        made.append(
            TrafficRecord(
                time=1000.0 + number,
                request=f"r{number}",
                digest="digest",
                prompt=prompt,
                params={},
                text="",
                prompt_tokens=len(prompt),
                tokens=1,
                seconds=0.1,
                finish="stop",
                prompt_bits_per_char=float(random.normal(bits, 0.3)),
                prompt_chars=len(prompt),
                prompt_words=words.buckets(prompt),
                written=2000.0 + number,
            )
        )
    return made


def test_until_there_is_a_reference_the_report_says_so():
    """The first requests say what is usual; how many are missing is told."""
    seen = observe(FRESH, records(40, seed=1))
    assert "40 of the 100 requests" in describe(report(seen, 1))
    assert not report(seen, 1).drift_detected
    assert observe(seen, records(70, seed=2)).rows == 10


def test_a_drift_is_told_with_signal_time_strength_and_examples():
    """The report names what changed, since when, how strongly, and shows prompts unlike before."""
    seen = observe(FRESH, records(200, seed=1))
    assert report(seen, 1).drift_detected is False
    assert "no drift" in describe(report(seen, 1))
    seen = observe(seen, records(60, seed=2, bits=4.0, vocabulary=OTHERS, start=200))
    found = report(seen, 7)
    assert found.drift_detected
    assert found.strength >= found.proof
    assert 95 <= found.since_request <= 115
    assert abs(found.since - 1200) < 15
    assert len(found.examples) == 3
    assert all(set(example.split()) <= set(OTHERS) for example in found.examples)
    assert "drift at version 7" in describe(found)


def test_it_can_be_left_after_any_record():
    """Records one by one, with the state written and read in between, end as records all at once."""
    every = [*records(150, seed=3), *records(20, seed=4, bits=4.0, vocabulary=OTHERS, start=150)]
    at_once = observe(FRESH, every)
    one_by_one = FRESH
    for record in every:
        one_by_one = from_json(to_json(observe(one_by_one, [record])), Monitor)
    assert one_by_one.finding == at_once.finding is not None
    assert one_by_one.capital == at_once.capital
    assert one_by_one.drifted_since == at_once.drifted_since


def test_prompts_handed_over_are_the_reference_at_once():
    """No request needs to come first, and what was seen before counts no more."""
    seen = given(observe(FRESH, records(30, seed=5)), records(120, seed=6), "from prompts.txt")
    assert (seen.rows, report(seen, 1).reference) == (0, 120)
    assert observe(seen, records(60, seed=7, bits=4.0)).drift_detected


def test_examples_without_text_say_that_it_was_not_kept():
    """With numbers alone there is still a finding, and no prompt is made up."""
    bare = [dataclasses.replace(one, prompt="") for one in records(60, seed=2, bits=4.0, start=100)]
    seen = observe(observe(FRESH, records(100, seed=1)), bare)
    assert len(unlike(seen)) == 3
    assert set(report(seen, 1).examples) == {"(its text was not kept)"}


def test_the_pictures_show_no_prompt_as_markup():
    """What people type is text on the page, whatever it is."""
    drifted = [dataclasses.replace(one, prompt="<script>") for one in records(60, seed=2, bits=4.0, start=100)]
    seen = observe(observe(FRESH, records(100, seed=1)), drifted)
    shown = page(seen, describe(report(seen, 1)), "")
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert shown.count("<svg") == 5


def test_what_is_lacking_is_named_by_words():
    """Words that people use and songs do not come first; common ones do not come at all."""
    prompts = [f"the noche {number}" for number in range(5)] + ["the amor"]
    assert lacking.words(prompts, ["the night the love the end"] * 10)[:2] == ("noche", "amor")
    assert "the" not in lacking.words(prompts, ["the night the love"] * 10)


def test_it_keeps_up_with_traffic():
    """A thousand records take well under a second."""
    many = records(1100, seed=8)
    began = time.perf_counter()
    observe(FRESH, many)
    assert time.perf_counter() - began < 2
