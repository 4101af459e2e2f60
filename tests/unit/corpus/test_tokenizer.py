import random
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from lyrics_lm.corpus import sample
from lyrics_lm.corpus.text import SONG_BREAK, clean
from lyrics_lm.corpus.tokenizer import UNKNOWN, build, encode_all
from lyrics_lm.params import TokenizerParams

TEXTS = [clean(song.text) for song in sample.generate(60)]
CHARACTERS = build(TEXTS, TokenizerParams(kind="characters"))
BPE = build(TEXTS, TokenizerParams(kind="bpe", vocab_size=600))
BOTH = pytest.mark.parametrize("tokenizer", [CHARACTERS, BPE], ids=["characters", "bpe"])
KNOWN = "".join(sorted(set("".join(TEXTS))))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


@BOTH
@given(st.text(alphabet=KNOWN))
@example("  two  blanks \n\n at 'Zoë''s, \n")
def test_known_text_comes_back_in_lower_case(tokenizer: Tokenizer, text: str) -> None:
    """Not a blank and not a newline is lost or added between text and tokens."""
    assert (
        tokenizer.decode(ids(tokenizer, text), skip_special_tokens=False) == unicodedata.normalize("NFC", text).lower()
    )


@BOTH
@given(st.text(alphabet=KNOWN))
def test_song_break_and_song_join_without_a_seam(tokenizer: Tokenizer, text: str) -> None:
    """The tokens of a song after a break are those of the break and of the song, so training on joined
    songs and prompting with a break agree."""
    assert ids(tokenizer, SONG_BREAK + text) == ids(tokenizer, SONG_BREAK) + ids(tokenizer, text)
    assert len(ids(tokenizer, SONG_BREAK)) == 3


@BOTH
def test_unknown_characters_are_one_token_each_and_never_an_error(tokenizer: Tokenizer) -> None:
    """What training never saw is the unknown token, with id 0, in the midst of known text."""
    assert tokenizer.token_to_id(UNKNOWN) == 0
    assert tokenizer.model.unk_token == UNKNOWN
    found = ids(tokenizer, "a\u4e2d\u6587b")
    assert found.count(0) == 2
    assert tokenizer.decode(found, skip_special_tokens=False) == f"a{UNKNOWN}{UNKNOWN}b"


@BOTH
def test_it_streams(tokenizer: Tokenizer) -> None:
    """Decoded token by token, the pieces make up the text."""
    stream = DecodeStream()
    assert "".join(stream.step(tokenizer, token) or "" for token in ids(tokenizer, TEXTS[0])) == TEXTS[0].lower()


@BOTH
def test_it_is_made_the_same_every_time(tokenizer: Tokenizer) -> None:
    """The same texts give the same file, and a file gives the same tokenizer."""
    kind = "characters" if tokenizer is CHARACTERS else "bpe"
    assert build(TEXTS, TokenizerParams(kind=kind, vocab_size=600)).to_str() == tokenizer.to_str()
    assert ids(Tokenizer.from_str(tokenizer.to_str()), TEXTS[3]) == ids(tokenizer, TEXTS[3])


@BOTH
def test_a_corpus_is_encoded_as_the_library_would(tokenizer: Tokenizer) -> None:
    """All tokens of all texts, in order, as 16-bit numbers; nothing for nothing."""
    tokens = encode_all(tokenizer, TEXTS)
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [token for text in TEXTS for token in ids(tokenizer, text)]
    assert encode_all(tokenizer, []).tolist() == []


def test_the_vocabulary_is_that_of_the_training_texts() -> None:
    """Sorted lower-case characters and the newline of the song break; no more is known."""
    tokenizer = build(["Ba", "Éc"], TokenizerParams())
    assert tokenizer.get_vocab() == {UNKNOWN: 0, "\n": 1, "a": 2, "b": 3, "c": 4, "é": 5}


def test_bpe_has_the_size_asked_for() -> None:
    """`tokenizer.vocab_size` is what the model will have; text takes fewer tokens for it."""
    assert BPE.get_vocab_size() == 600
    assert len(ids(BPE, TEXTS[0])) < 0.6 * len(TEXTS[0])


TRICKY = [
    "\u0130stanbul",  # lower-cases to two characters
    "\u039f\u0394\u039f\u03a3",  # no special sigma at the end of a word
    "\u1e9e \u01c5 \u212a \u2126",  # sharp s, titlecase digraph, Kelvin, Ohm
    "\U00010d50\u1c89\ua7cb",  # capitals younger than Python's Unicode tables
    "\U00011382\U000113c9",  # composes to U+11383 in Unicode 16
    "\ufffd\0\u2028",
]


@settings(max_examples=300)
@given(st.lists(st.text(max_size=20), max_size=4), st.randoms(use_true_random=False))
@example(TRICKY, random.Random(0))
def test_the_table_equals_the_library_on_any_text(texts: list[str], order: random.Random) -> None:
    """Whatever Unicode the songs hold, and whichever part of it training saw."""
    cleaned = [clean(text) for text in texts]
    tokenizer = build(cleaned[: order.randint(0, len(cleaned))], TokenizerParams())
    assert encode_all(tokenizer, cleaned).tolist() == [token for text in cleaned for token in ids(tokenizer, text)]


@pytest.mark.parametrize("text", TRICKY)
def test_the_table_equals_the_library_on_tricky_text(text: str) -> None:
    """Letters whose lower case or composition is out of the ordinary, one by one."""
    tokenizer = build([clean(text)], TokenizerParams())
    assert encode_all(tokenizer, [clean(text)]).tolist() == ids(tokenizer, clean(text))
