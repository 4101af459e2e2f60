import random

import pytest

from lyrics_lm.corpus.near_duplicates import near_pairs


def song(seed: int, words: int = 200) -> list[str]:
    return [f"w{random.Random(seed * 1000 + i).randrange(500)}" for i in range(words)]


def similarity(one: list[str], other: list[str]) -> float:
    """Exact Jaccard similarity of the word triples."""
    sets = [set(zip(words, words[1:], words[2:], strict=False)) for words in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_pairs_are_those_of_the_exact_similarity(threshold: float) -> None:
    """Clearly similar pairs are all found, clearly different ones never, whatever the threshold."""
    base = song(1)
    variants = [base[: 200 - cut] + song(2 + cut)[:cut] for cut in range(0, 200, 4)]
    found = {tuple(pair) for pair in near_pairs([" ".join(words) for words in variants], threshold).tolist()}
    for i in range(len(variants)):
        for j in range(i + 1, len(variants)):
            exact = similarity(variants[i], variants[j])
            if exact > threshold + 0.12:
                assert (i, j) in found, exact
            if exact < threshold - 0.12:
                assert (i, j) not in found, exact


def test_what_is_not_a_word_does_not_count() -> None:
    """Line breaks, capitals, ASCII and other punctuation make no difference."""
    plain = "don t stop the music tonight my friend it s late"
    texts = [
        plain,
        "Don't stop\nthe MUSIC - tonight!\n\nMy friend: it's late",
        "don\u2019t stop the music \u2014 " + plain[21:],
    ]
    assert near_pairs(texts, 1.0).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_words_are_not_cut_at_other_scripts() -> None:
    """Accents and other alphabets are letters too, and case is folded there as well."""
    assert near_pairs(["où est été мир", "OÙ EST ÉTÉ МИР", "ou est ete мир"], 0.9).tolist() == [[0, 1]]


def test_a_triple_does_not_reach_into_the_next_song() -> None:
    """Short songs side by side share nothing; a repeated one-word song is found."""
    assert near_pairs(["yes", "no", "maybe so", "yes", "a b c"], 0.9).tolist() == [[0, 3]]


def test_a_pair_does_not_depend_on_the_company() -> None:
    """The same two songs are a pair among two songs and among two thousand, wherever they stand."""
    pair = [" ".join(song(1)), " ".join(song(1)[:150] + song(3)[:50])]
    others = [" ".join(song(seed, 60)) for seed in range(10, 2010)]
    assert near_pairs(pair, 0.5).tolist() == [[0, 1]]
    assert near_pairs([pair[0], *others, pair[1]], 0.5).tolist() == [[0, 2001]]


def test_many_copies_give_every_pair_once() -> None:
    """A crowd of songs alike gives each pair once, earlier song first."""
    assert near_pairs(["la la la la"] * 40, 0.5).tolist() == [[i, j] for i in range(40) for j in range(i + 1, 40)]


def test_no_songs_no_pairs() -> None:
    """Nothing and one song are no special case for the caller."""
    assert near_pairs([], 0.5).tolist() == near_pairs(["la"], 0.5).tolist() == []
