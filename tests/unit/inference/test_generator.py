from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from bundles import VOCAB, bigram_bundle, bigram_graph, character_tokenizer, graph_bundle, stateful_bundle, table
from lyrics_lm.bundle import TOKENIZER
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.errors import ConformanceError
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.stream import Sampling
from lyrics_lm.inference.vocabulary import StopStrings, load_tokenizer, unknown_token

SIZE = len(VOCAB) + 1


@pytest.fixture
def tiny(tmp_path):
    return Generator(bigram_bundle(tmp_path / "tiny"))


@pytest.fixture
def stateful(tmp_path):
    return Generator(stateful_bundle(tmp_path / "stateful"))


def cycle(directory, tokens):
    """A generator that goes round `tokens` for ever, each followed by the next."""
    logits = np.zeros((len(tokens) + 1, len(tokens) + 1), dtype=np.float32)
    for place in range(len(tokens)):
        logits[place + 1, (place + 1) % len(tokens) + 1] = 60
    return Generator(graph_bundle(directory, bigram_graph(logits), vocab=tokens))


def text_of(generator, prompt, choice=0, **sampling):
    ids = generator.vocabulary.encode(prompt) if isinstance(prompt, str) else prompt
    return "".join(piece.text for piece in generator.generate(ids, Sampling(**sampling), choice=choice))


def scored(generator, prompt, top):
    """The scores of a prompt's own tokens."""
    [piece] = generator.generate(prompt, Sampling(max_tokens=0, logprobs=top, echo_scores=True))
    return piece.scores


@pytest.mark.parametrize("kind", ["tiny", "stateful"])
def test_the_same_seed_and_prompt_give_the_same_text(kind, request):
    """Also beside other requests in other threads; another seed, choice or prompt gives another text."""
    generator = request.getfixturevalue(kind)
    text = text_of(generator, "love is", seed=5, max_tokens=60)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda _: text_of(generator, "love is", seed=5, max_tokens=60), range(8)))
    assert again == [text] * 8
    assert len(text) == 60
    others = {
        text_of(generator, "love is", seed=6, max_tokens=60),
        text_of(generator, "love is", seed=5, max_tokens=60, choice=1),
    }
    assert len(others | {text}) == 3


def test_without_a_seed_every_text_is_another(tiny):
    """No seed means a fresh one."""
    assert text_of(tiny, "love is", max_tokens=60) != text_of(tiny, "love is", max_tokens=60)


def test_a_longer_text_begins_with_the_shorter_one(stateful):
    """How much is asked for does not change what is drawn."""
    short, long = (text_of(stateful, "oh", seed=3, max_tokens=count) for count in (10, 40))
    assert long.startswith(short)


def test_temperature_zero_follows_the_likeliest_token(tiny):
    """Greedy text is the path of largest logits, the unknown token left out."""
    logits = table(SIZE, 0)
    logits[:, 0] = -np.inf
    at, expected = tiny.vocabulary.encode("a")[0], ""
    for _ in range(20):
        at = int(logits[at].argmax())
        expected += VOCAB[at - 1]
    assert text_of(tiny, "a", temperature=0, max_tokens=20) == expected


def test_pieces_tell_how_a_text_ended(tmp_path):
    """`length` on the last of `max_tokens`, `stop` where a stop string is met, nothing before."""
    generator = cycle(tmp_path / "b", "abcde")
    prompt = generator.vocabulary.encode("a")
    pieces = list(generator.generate(prompt, Sampling(max_tokens=200)))
    assert [piece.finish for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert sum(piece.tokens for piece in pieces) == 200
    [piece] = generator.generate(prompt, Sampling(max_tokens=9, stop=("ab",)))
    assert (piece.text, piece.tokens, piece.finish) == ("bcde", 6, "stop")
    [piece] = generator.generate(prompt, Sampling(max_tokens=0))
    assert (piece.text, piece.tokens, piece.finish) == ("", 0, "length")


@pytest.mark.parametrize(
    ("stop", "text", "finish"),
    [
        (("elodelo",), "", "stop"),  # begins inside one token, ends inside the fourth
        (("rhy",), "elodelo", "stop"),
        (("thm", "mel"), "elodelorhy", "stop"),  # the first to appear
        (("never",), "elodelorhythmmelo", "length"),
        (("melody",), "elodelorhythmmelo", "length"),  # held back in vain, given out at the end
    ],
)
def test_stop_strings_are_found_across_token_borders_and_left_out(tmp_path, stop, text, finish):
    """A stop string may begin and end anywhere in a token; nothing of it, nor after it, is shown."""
    generator = cycle(tmp_path / "b", ["m", "elo", "d", "elorhy", "th", "m", "melo"])
    pieces = list(generator.generate([1], Sampling(max_tokens=6, stop=stop, temperature=0)))
    assert "".join(piece.text for piece in pieces) == text
    assert pieces[-1].finish == finish


def test_logprobs_are_those_of_softmax(tiny):
    """Of the model as it is, before temperature, nucleus and ban; `top` holds the likeliest and the drawn."""
    prompt = tiny.vocabulary.encode("la")
    sampling = Sampling(max_tokens=30, seed=2, temperature=1.5, top_p=0.9, logprobs=3)
    scores = [score for piece in tiny.generate(prompt, sampling) for score in piece.scores]
    expected = log_softmax(table(SIZE, 0).astype(np.float64), axis=-1)
    at = prompt[-1]
    assert len(scores) == 30
    for score in scores:
        token = VOCAB.index(score.token) + 1
        assert score.logprob == pytest.approx(expected[at, token], abs=1e-5)
        best = {tiny.vocabulary.decode([int(other)]) for other in np.argsort(-expected[at])[:3]}
        assert set(score.top) == best | {score.token}
        assert score.top[score.token] == score.logprob
        at = token


def test_asking_for_logprobs_changes_no_text(stateful):
    """Scores are read off, not drawn anew."""
    plain = text_of(stateful, "la", seed=4, max_tokens=30)
    assert text_of(stateful, "la", seed=4, max_tokens=30, logprobs=5) == plain


@pytest.mark.parametrize("kind", ["tiny", "stateful"])
def test_a_prompt_is_scored_token_by_token(kind, request):
    """Each token given all before it, as if it had been generated; the first has no score."""
    generator = request.getfixturevalue(kind)
    ids = generator.vocabulary.encode("la la, love")
    scores = scored(generator, ids, 2)
    assert [score.token for score in scores] == list("la la, love")
    assert (scores[0].logprob, scores[0].top) == (None, None)
    for place in range(1, len(ids)):
        logits, _ = generator.engine.advance([np.array(ids[:place])], generator.engine.start())
        expected = log_softmax(logits[0].astype(np.float64))
        assert scores[place].logprob == pytest.approx(expected[ids[place]], abs=1e-5)
        assert len(scores[place].top) in (2, 3)


def test_no_top_asked_for_gives_none(tiny):
    """With `logprobs` 0 there are log-probabilities of what was drawn, and no table."""
    assert all(score.top is None for score in scored(tiny, tiny.vocabulary.encode("la"), 0))


def test_the_unknown_token_is_never_generated(tmp_path):
    """Even where it is by far the likeliest: it stands for no text."""
    logits = table(SIZE, 0)
    logits[:, 0] = 50
    generator = Generator(graph_bundle(tmp_path / "b", bigram_graph(logits)))
    for temperature in (0.0, 1.0, 2.0):
        text = text_of(generator, "la", temperature=temperature, max_tokens=100, seed=1)
        assert "<unk>" not in text
        assert len(text) == 100


def test_an_unknown_character_in_a_prompt_is_one_unknown_token(tiny):
    """A prompt in any script can be continued."""
    assert tiny.vocabulary.encode("a✓b") == [tiny.vocabulary.encode("a")[0], 0, tiny.vocabulary.encode("b")[0]]
    assert len(text_of(tiny, "愛", max_tokens=5)) == 5


def test_an_empty_prompt_is_the_start_of_a_song(tiny):
    """The model then reads what stands between songs, so it begins a new one."""
    assert tiny.vocabulary.encode("") == tiny.vocabulary.encode(SONG_BREAK) == [1, 1, 1]
    assert len(text_of(tiny, "", max_tokens=12, seed=1)) == 12


@pytest.mark.parametrize("prompt", ["", "na", "é"])
def test_characters_of_several_bytes_are_never_cut(tmp_path, prompt):
    """With byte-level subwords, streamed pieces join to the text, and none shows half a character."""
    tokenizer = Tokenizer(models.BPE({symbol: place for place, symbol in enumerate(byte_alphabet())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    target = tokenizer.encode("né 愛\n").ids
    logits = np.zeros((256, 256), dtype=np.float32)
    for before, after in zip(target, [*target[1:], target[0]], strict=True):
        logits[before, after] += 60
    graph = bigram_graph(logits)
    generator = Generator(graph_bundle(tmp_path / "b", graph, tokenizer=tokenizer, vocab="x" * 255))
    pieces = list(generator.generate(target, Sampling(max_tokens=2 * len(target), temperature=0)))
    assert "".join(piece.text for piece in pieces) == "né 愛\n" * 2
    assert all("�" not in piece.text for piece in pieces)


def byte_alphabet():
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def test_a_damaged_tokenizer_is_named(tmp_path):
    """One line with the file and the remedy."""
    made = bigram_bundle(tmp_path / "b")
    (made.path / TOKENIZER).write_text("{")
    with pytest.raises(ConformanceError, match=r"tokenizer.json is not a tokenizers file: .*; save it with"):
        load_tokenizer(made)


def test_a_tokenizer_may_lack_an_unknown_token():
    """Then nothing is forbidden."""
    assert unknown_token(character_tokenizer()) == 0
    assert unknown_token(Tokenizer(models.BPE({"a": 0}, []))) is None


pieces_of_text = st.lists(st.text("ab\n", max_size=4), max_size=12)
stop_strings = st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4)


@given(pieces_of_text, stop_strings)
@settings(max_examples=400, deadline=None)
def test_stop_strings_agree_with_a_search_of_the_whole_text(pieces, stops):
    """Fed piece by piece, what is shown is the text up to the first stop string in what was read so far."""
    watch, shown, read, stopped = StopStrings(stops), "", "", False
    for piece in pieces:
        read += piece
        text, stopped = watch.feed(piece)
        shown += text
        ends = [at for at in map(read.find, stops) if at >= 0]
        assert stopped == bool(ends)
        if stopped:
            assert shown == read[: min(ends)]
            break
        assert read.startswith(shown)
        longest = max((size for stop in stops for size in range(len(stop)) if read.endswith(stop[:size])), default=0)
        assert len(read) - len(shown) == longest  # held back no more than needed
    if not stopped:
        assert shown + watch.rest() == "".join(pieces)
