import random
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lyrics_lm.corpus import verbatim
from lyrics_lm.corpus.verbatim import LEAST, Passage, build


def song(seed, lines=12):
    """Lines that no other song has."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 8))) for _ in range(lines * 6)]
    return "\n".join(" ".join(words[place : place + 6]) for place in range(0, len(words), 6))


SONGS = [song(seed) for seed in range(8)]
NAMES = [f"Artist - Song {number}" for number in range(8)]
INDEX = build(SONGS, NAMES)


def naive(text, songs):
    """Which characters of a text stand in a passage of `LEAST` that some song has, by looking everywhere."""
    known = np.zeros(len(text), dtype=bool)
    for place in range(len(text) - LEAST + 1):
        if any(text[place : place + LEAST] in one for one in songs):
            known[place : place + LEAST] = True
    return known


@given(st.integers(0, 7), st.integers(0, 200), st.integers(1, 120), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_every_passage_is_found_wherever_it_stands(which, start, length, before):
    """Of any length and place in its song, after anything: all of it, nothing more, and whose it is."""
    passage = SONGS[which][start : start + length]
    text = "#" * before + passage + "#" * 7
    found = INDEX.passages(text)
    if len(passage) < LEAST:
        assert found == []
    else:
        assert found == [Passage(before, before + len(passage), which)]


def test_a_patchwork_is_as_looking_everywhere_says():
    """Pieces of many songs after each other, of all lengths: the same characters are known."""
    draw = random.Random(3)
    pieces = [SONGS[draw.randrange(8)][(s := draw.randrange(250)) : s + draw.randrange(5, 90)] for _ in range(60)]
    text = "|".join(pieces)
    known = np.zeros(len(text), dtype=bool)
    for passage in INDEX.passages(text):
        known[passage.start : passage.end] = True
        assert text[passage.start : passage.end] in SONGS[passage.song]
    assert known.tolist() == naive(text, SONGS).tolist()


def test_places_are_counted_in_characters():
    """However many bytes each takes."""
    text = "ännchen ähnelt öfter überall größeren häusern — naïveté"
    index = build([text, *SONGS], ["Ä", *NAMES])
    assert index.passages("«é» " + text) == [Passage(4, 4 + len(text), 0)]


def test_what_many_songs_share_is_nobodys():
    """A line of three songs, and a line its song repeats, end a passage; a line of two songs does not."""
    shared = "and everybody sings this very same old line together"
    two = [f"{song(20)}\n{shared}", f"{song(21)}\n{shared}"]
    assert len(build([*two, *SONGS], ["a", "b", *NAMES]).passages(shared)) == 2
    assert build([*two, f"{shared}\n{song(22)}", *SONGS], ["a", "b", "c", *NAMES]).passages(shared) == []
    refrain = f"{song(23)}\n{shared}\n{song(24)}\n{shared}"
    assert build([refrain, *SONGS], ["a", *NAMES]).passages(shared) == []


def test_no_passage_reaches_from_one_song_into_the_next():
    """The end of one and the beginning of another, joined, are two passages."""
    end, begin = SONGS[0][-60:], SONGS[1][:60]
    assert INDEX.passages(end + begin) == [Passage(0, 60, 0), Passage(60, 120, 1)]


def test_a_line_is_found_with_its_song():
    """Whole lines only, blanks around them aside; short ones tell nothing."""
    line = SONGS[3].split("\n")[4]
    assert INDEX.line(f"  {line} ") == "Artist - Song 3"
    assert INDEX.line(line[:-1]) is None
    assert build(["oh yeah\n" + SONGS[0]], ["a"]).line("oh yeah") is None


def test_an_index_kept_is_the_index(tmp_path):
    """Written, read again, and known by its corpus."""
    INDEX.save(tmp_path, "corpus 1")
    again = verbatim.load(tmp_path)
    assert verbatim.made_of(tmp_path) == "corpus 1"
    assert again.passages(SONGS[5]) == INDEX.passages(SONGS[5])
    assert again.line(SONGS[2].split("\n")[1]) == "Artist - Song 2"
    assert verbatim.made_of(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("texts", [[], [""], ["short"]])
def test_next_to_nothing_can_be_indexed(texts):
    """And nothing is found in it."""
    assert build(texts, ["a"] * len(texts)).passages(SONGS[0]) == []
    assert build(texts, ["a"] * len(texts)).line(SONGS[0].split("\n")[0]) is None
