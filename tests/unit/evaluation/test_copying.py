import itertools
import string

import numpy as np
import pytest

from bundles import bigram_bundle, bigram_graph, graph_bundle
from lyrics_lm.corpus.verbatim import build
from lyrics_lm.evaluation import copying, gate
from lyrics_lm.inference.generator import Generator
from lyrics_lm.records import CopyingReport

ALPHABET = string.ascii_letters + string.digits + " ,.;:"
WINDOW = 50


def song(seed):
    """A line in which every letter of the alphabet has one follower, round and round."""
    order = np.random.default_rng(seed).permutation(list(ALPHABET))
    return "".join(order) * 3


def parrot(folder, text, strength=30.0):
    """A bundle that goes on after each character as `text` does."""
    table = np.zeros((len(ALPHABET) + 1, len(ALPHABET) + 1), dtype=np.float32)
    for one, other in itertools.pairwise(text):
        table[ALPHABET.index(one) + 1, ALPHABET.index(other) + 1] = strength
    return graph_bundle(folder, bigram_graph(table), vocab=ALPHABET)


@pytest.fixture(scope="module")
def songs():
    return [song(seed) for seed in range(4)]


def measured(bundle, songs, test_songs):
    index = build(songs, [f"song {place}" for place in range(len(songs))])
    return copying.measure(Generator(bundle), songs, test_songs, index, window=WINDOW)


def test_a_parrot_is_caught(tmp_path, songs):
    """One that writes a training song is rejected, and the report names the song and shows how it begins, no more."""
    report = measured(parrot(tmp_path / "b", songs[1]), songs, [song(9)])
    verdict = gate.copying(report)
    assert report.share > 0.9
    assert report.longest > 90
    assert report.excess_low > 0.9
    assert [worst.song for worst in report.worst] == ["song 1"]
    assert len(report.worst[0].text) <= 60 < report.worst[0].length
    assert not verdict.passed
    assert verdict.reason.startswith("it copies: ")
    assert "song 1" in verdict.reason


def test_one_that_makes_up_its_own_passes(tmp_path, songs):
    """Nothing it writes stands in a song."""
    report = measured(bigram_bundle(tmp_path / "b", vocab=ALPHABET), songs, [song(9)])
    assert (report.share, report.longest, report.worst) == (0, 0, ())
    assert report.samples == copying.PREFIXES + copying.FREE
    assert gate.copying(report).passed


def test_what_the_test_songs_share_too_is_no_copying(tmp_path, songs):
    """Where songs nobody trained on stand in the training songs as much, neither does a model copy."""
    report = measured(parrot(tmp_path / "b", songs[1]), songs, [songs[1]] * 3)
    assert report.test_share == pytest.approx(1)
    assert gate.copying(report).passed


def test_the_same_model_gets_the_same_report(tmp_path, songs):
    """What it writes is seeded."""
    bundle = parrot(tmp_path / "b", songs[1], strength=4.0)
    assert measured(bundle, songs, [song(9)]) == measured(bundle, songs, [song(9)])


@pytest.mark.parametrize(("low", "passed"), [(-0.2, True), (0.0, True), (0.01, True), (0.011, False), (0.5, False)])
def test_one_in_a_hundred_is_let_pass(low, passed):
    """And not more, as far as the interval can tell."""
    report = CopyingReport(WINDOW, 600, low + 0.1, 0.05, low, low + 0.2, 80, 60, ())
    assert gate.copying(report).passed == passed
