import collections
import csv
import hashlib
import itertools
import math
import zlib
from pathlib import Path

import pytest

from lyrics_lm.corpus import sample
from lyrics_lm.corpus.near_duplicates import near_pairs
from lyrics_lm.corpus.songs import read_songs
from lyrics_lm.params import CorpusParams


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "sample.csv"
    sample.write(path)
    return path


def test_it_has_the_shape_of_the_real_data_set(path: Path) -> None:
    """1,500 songs in 1.0 to 1.5 MB, under the same header, with CRLF inside quoted text."""
    assert path.read_bytes().startswith(b"artist,song,link,text\r\n")
    assert 1.0e6 < path.stat().st_size < 1.5e6
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1500
    assert all("  \r\n" in row["text"] and row["link"].startswith("/") for row in rows)
    assert len({row["artist"] for row in rows}) > 50


def test_every_song_is_usable(path: Path) -> None:
    """Nothing of the sample is set aside, and cleaning leaves verses apart."""
    read = read_songs([path], CorpusParams())
    assert read.rejects == ()
    assert all("\n\n" in text for text in read.songs["text"])


def test_a_seed_is_a_corpus() -> None:
    """The same seed gives the same songs on every machine; another gives others."""
    songs = list(sample.generate(40, seed=1))
    assert songs == list(sample.generate(40, seed=1)) == list(sample.generate(80, seed=1))[:40]
    assert songs != list(sample.generate(40, seed=2))
    assert hashlib.sha256(repr(songs).encode()).hexdigest()[:16] == "c9301d1f13aecd02"


def test_songs_resemble_each_other_only_on_purpose(path: Path) -> None:
    """Live versions and covers are found as near-duplicates; hardly any others are."""
    songs = read_songs([path], CorpusParams()).songs
    titles = [title.removesuffix(" (Live)") for title in songs["song"]]
    pairs = near_pairs(songs["text"].to_list(), 0.5).tolist()
    assert sum("(Live)" in title for title in songs["song"]) > 20
    assert len(pairs) > 40
    assert sum(titles[first] != titles[second] for first, second in pairs) < 0.05 * len(songs)


def test_there_is_more_to_learn_than_pairs_of_letters(path: Path) -> None:
    """A plain compressor, which sees words and choruses, beats the best bigram by over half a bit a character."""
    text = "\n\n\n".join(text.lower() for text in read_songs([path], CorpusParams()).songs["text"])
    pairs, firsts = collections.Counter(itertools.pairwise(text)), collections.Counter(text)
    bigram = -sum(n * math.log2(n / firsts[first]) for (first, _), n in pairs.items()) / len(text)
    compressed = 8 * len(zlib.compress(text.encode(), 9)) / len(text)
    assert compressed < bigram - 0.5
