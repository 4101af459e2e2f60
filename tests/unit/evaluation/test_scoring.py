import math

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from bundles import (
    SUM_STATE,
    UNKNOWN,
    VOCAB,
    WIDTH,
    bigram_bundle,
    character_tokenizer,
    graph_bundle,
    stateful_bundle,
    sum_graph,
    table,
    window_graph,
)
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.evaluation import scoring
from lyrics_lm.inference.engine import Engine

SIZE = len(VOCAB) + 1
SONGS = ["love is all\ni know", "a", "", "what's this?\n\nit is a longer song, with lines.\n" * 3, "no no no"]


def score(bundle, texts=SONGS, tokenizer=None):
    names = [f"song {place}" for place in range(len(texts))]
    return scoring.score(
        Engine(bundle), tokenizer or character_tokenizer(), texts, names, model="m", split="test"
    ).report


def nats(logits, target):
    """-ln p(target), in float64."""
    logits = logits.astype(np.float64)
    return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target])


def reference(texts, logits_after):
    """Loss of each text, token by token; `logits_after` maps all tokens so far to the next one's logits."""
    tokenizer, losses = character_tokenizer(), []
    opening = tokenizer.encode(SONG_BREAK).ids
    for text in texts:
        ids = tokenizer.encode(text).ids
        losses.append(sum(nats(logits_after((opening + ids)[: 3 + i]), token) for i, token in enumerate(ids)))
    return losses


def test_every_token_is_scored_after_all_before_it(tmp_path):
    """A model with state is scored on each song from its first token, which follows a song break."""
    report = score(stateful_bundle(tmp_path / "b"))
    embedding, head = table(SIZE, 0, WIDTH) / 4, table(WIDTH, 1, SIZE)
    assert report.nats == pytest.approx(reference(SONGS, lambda past: np.tanh(embedding[past].sum(0)) @ head), rel=1e-5)
    assert report.tokens == report.chars == tuple(len(song) for song in SONGS)


def test_a_model_without_state_sees_a_full_window(tmp_path):
    """Beyond its context each token is scored with the whole of the last window, never a shorter one."""
    logits, embedding = table(SIZE, 0), table(SIZE, 1)
    report = score(graph_bundle(tmp_path / "b", window_graph(logits, embedding), context=5))
    expected = reference(SONGS, lambda past: logits[past[-1]] + embedding[past[-5:]].sum(0))
    assert report.nats == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("limit", [1, 500, 5_000])
def test_bounded_memory_changes_no_score(tmp_path, monkeypatch, limit):
    """Reading songs in smaller batches and columns gives the same losses."""
    stateful = stateful_bundle(tmp_path / "b")
    windows = graph_bundle(tmp_path / "w", window_graph(table(SIZE, 0), table(SIZE, 1)), context=5)
    whole = [score(stateful).nats, score(windows).nats]
    monkeypatch.setattr(scoring, "_MAX_LOGITS", limit)
    monkeypatch.setattr(scoring, "_COLUMNS", 2)
    for bundle, expected in zip((stateful, windows), whole, strict=True):
        assert score(bundle).nats == pytest.approx(expected, rel=1e-5)


def test_perplexity_is_of_the_mean_log_probability(tmp_path):
    """A uniform model of V tokens has perplexity V and log2 V bits per character."""
    uniform = graph_bundle(tmp_path / "b", window_graph(np.zeros((SIZE, SIZE), np.float32), table(SIZE, 1) * 0))
    report = score(uniform)
    assert report.perplexity == pytest.approx(SIZE)
    assert report.bits_per_char == pytest.approx(math.log2(SIZE))


def test_large_logits_do_not_overflow(tmp_path):
    """The sum is in log space: logits of a thousand are finite losses."""
    bundle = graph_bundle(tmp_path / "b", window_graph(table(SIZE, 0) * 1000, table(SIZE, 1) * 0))
    assert np.isfinite(score(bundle).nats).all()


def test_unknown_characters_are_counted(tmp_path):
    """A character without a token is one unknown; characters are those of the text as given."""
    report = score(bigram_bundle(tmp_path / "b"), ["LOVE is", "caf\u00e9 \N{FOX FACE}", "known"])
    assert report.unknown == (4, 2, 0)
    assert report.chars == (7, 6, 5)


def test_an_unknown_word_hides_all_its_characters(tmp_path):
    """One unknown token for a word counts each character of it, and dropped line ends count too."""
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0, "love": 1, "is": 2}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bundle = graph_bundle(tmp_path / "b", sum_graph(SIZE, 0), state=SUM_STATE)
    report = score(bundle, ["love is blind", "love is", "love\n\n\nis"], tokenizer)
    assert report.unknown == (5 + 1, 0, 2)  # "blind" and the blank before it; two of three line ends


def test_a_text_cut_short_counts_what_is_missing(tmp_path):
    """A tokenizer that truncates does not make long songs cheap."""
    tokenizer = character_tokenizer()
    tokenizer.enable_truncation(10)
    assert score(bigram_bundle(tmp_path / "b"), ["la " * 10], tokenizer).unknown == (20,)


def test_a_break_without_tokens_costs_the_first_token_a_uniform_guess(tmp_path):
    """Where a song break has no tokens the first token has no context: ln V nats."""
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0, "love": 1, "is": 2}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    report = score(bigram_bundle(tmp_path / "b"), ["love", "love is", ""], tokenizer)
    first = math.log(SIZE)
    assert report.nats == pytest.approx((first, first + nats(table(SIZE, 0)[1], 2), 0.0), rel=1e-5)


def test_texts_without_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        scoring.score(Engine(bigram_bundle(tmp_path / "b")), character_tokenizer(), ["a"], [], model="m", split="t")
