import itertools
import math

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.corpus.tokenizer import build, encode_all
from lyrics_lm.params import TokenizerParams
from lyrics_lm.training import bigram

texts = st.integers(1, 6).flatmap(
    lambda size: st.tuples(st.just(size), st.lists(st.integers(0, size - 1), min_size=2, max_size=60))
)


def test_a_small_example_by_hand():
    """0 1 0 1 2 holds 0-1 twice, 1-0 and 1-2 once; each pair counts half a time more, rows sum to one."""
    expected = [[0.5 / 3.5, 2.5 / 3.5, 0.5 / 3.5], [1.5 / 3.5, 0.5 / 3.5, 1.5 / 3.5], [1 / 3, 1 / 3, 1 / 3]]
    table = bigram.count(np.array([0, 1, 0, 1, 2]), 3)
    np.testing.assert_allclose(table, np.log(expected), rtol=1e-6)


@given(texts, st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_counts_are_those_of_a_loop_over_pairs(text, chunk):
    """In chunks of any length no pair is lost at a border, none counted twice; tokens may be 16 bits wide."""
    size, tokens = text
    counts = np.full((size, size), 0.5)
    for before, after in itertools.pairwise(tokens):
        counts[before, after] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bigram, "_CHUNK", chunk)
        table = bigram.count(np.array(tokens, dtype=np.uint16), size)
    np.testing.assert_allclose(np.exp(table), counts / counts.sum(1, keepdims=True), rtol=1e-5)


def test_a_vocabulary_wider_than_sixteen_bits_of_pairs():
    """Pairs are numbered beyond what the tokens' own type holds."""
    tokens = np.array([300, 299, 300, 299, 300], dtype=np.uint16)
    table = bigram.count(tokens, 301)
    assert table[300, 299] == pytest.approx(math.log(2.5 / (2 + 0.5 * 301)))
    assert table[299, 300] == pytest.approx(math.log(2.5 / (2 + 0.5 * 301)))
    assert table[0, 0] == pytest.approx(math.log(1 / 301))


@given(texts, texts)
@settings(max_examples=100, deadline=None)
def test_the_loss_of_another_text_is_finite_and_as_computed_one_by_one(text, other):
    """Nats per token: the mean of -ln p over all tokens but the first, never infinite, seen before or not."""
    size = max(text[0], other[0])
    tokens, test = text[1], other[1]
    nats = []
    for before, after in itertools.pairwise(test):
        seen = sum(pair == (before, after) for pair in itertools.pairwise(tokens))
        nats.append(-math.log((seen + 0.5) / (tokens[:-1].count(before) + 0.5 * size)))
    table = bigram.count(np.array(tokens), size)
    assert np.isfinite(table).all()
    assert bigram.mean_loss(table, np.array(test)) == pytest.approx(np.mean(nats), rel=1e-5)


def test_no_other_table_has_a_lower_training_loss():
    """On a long text the counted table is the minimum: moving any way off it makes the loss worse."""
    random = np.random.default_rng(0)
    tokens = random.choice(5, size=200_000, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    table = bigram.count(tokens, 5)
    best = bigram.mean_loss(table, tokens)
    for _ in range(20):
        moved = table + random.normal(scale=0.05, size=table.shape)
        moved -= np.log(np.exp(moved).sum(axis=1, keepdims=True))
        assert bigram.mean_loss(moved.astype(np.float32), tokens) > best + 1e-5


def test_songs_are_one_stream_with_breaks_between_them():
    """A song break opens each song, so the table knows how songs begin, and how they end but for the last."""
    songs = ["ab", "abb", "ba"]
    tokenizer = build(songs, TokenizerParams())
    tokens = encode_all(tokenizer, [SONG_BREAK + song for song in songs])
    size = tokenizer.get_vocab_size()
    newline, a, b = (tokenizer.token_to_id(char) for char in "\nab")
    counts = np.full((size, size), 0.5)
    for before, after, times in ((newline, newline, 6), (newline, a, 2), (newline, b, 1)):
        counts[before, after] += times
    for before, after, times in ((a, b, 2), (b, b, 1), (b, a, 1), (b, newline, 2)):
        counts[before, after] += times
    expected = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(bigram.count(tokens, size)), expected, rtol=1e-6)


def test_the_exported_graph_looks_the_table_up(tmp_path):
    """For every batch and length the logits are the table's rows, to the bit."""
    table = bigram.count(np.random.default_rng(1).integers(7, size=500), 7)
    bigram.export(table, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for batch, time in ((1, 1), (3, 4), (2, 50)):
        tokens = np.random.default_rng(batch).integers(7, size=(batch, time))
        (logits,) = session.run(["logits"], {"tokens": tokens})
        np.testing.assert_array_equal(logits, table[tokens])


def test_the_same_text_gives_the_same_bytes(tmp_path):
    """Counted and exported twice, the file is the same; from another text it is another."""
    tokens = np.random.default_rng(2).integers(9, size=1000)
    files = []
    for place, text in enumerate((tokens, tokens.copy(), tokens[::-1])):
        bigram.export(bigram.count(text, 9), tmp_path / f"{place}.onnx")
        files.append((tmp_path / f"{place}.onnx").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]
