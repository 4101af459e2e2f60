"""The sample corpus: made-up songs, the same for a seed on every machine, to start with when there are no real ones.

Artists have a genre, a vocabulary and favourite sentence shapes of their own; songs have a subject that
returns, verses that rhyme, a chorus that repeats and now and then a live version or a cover by another.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from lyrics_lm import durable
from lyrics_lm.corpus.sample_words import ARTISTS, GENRES, LINES, PHRASES, RHYMES, TITLES, WORDS

HEADER = ("artist", "song", "link", "text")

_SONGS_PER_ARTIST = 25
_LIVE, _COVER = 0.03, 0.01
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
_PLURAL = ((re.compile(r"(ch|sh|x|ss)s\b"), r"\1es"), (re.compile(r"([^aeiou\W])ys\b"), r"\1ies"))
_KINDS = ("noun", "verb", "adj")

T = TypeVar("T")
Pools = dict[str, list[str]]


class SampleSong(NamedTuple):
    artist: str
    song: str
    link: str
    text: str


class _Family(NamedTuple):
    """Words that rhyme, by kind."""

    noun: list[str]
    verb: list[str]
    adj: list[str]


class _Genre(NamedTuple):
    """As a row of `GENRES`."""

    shortest: int
    longest: int
    scheme: str
    shape: str
    calls: float


def write(path: Path, songs: int = 1500, seed: int = 1) -> None:
    """Write a sample corpus as CSV, in the shape of the Spotify Million Song Dataset."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(HEADER)
    writer.writerows(generate(songs, seed))
    durable.write(path, buffer.getvalue().encode())


def generate(songs: int = 1500, seed: int = 1) -> Iterator[SampleSong]:
    """That many songs, artist by artist."""
    random, vocabulary = Random(seed), _vocabulary()
    earlier: list[SampleSong] = []
    for number in range(songs):
        if number % _SONGS_PER_ARTIST == 0:
            artist = _Artist(random, vocabulary)
        chance = random.random()
        if earlier and chance < _LIVE + _COVER:
            original = random.choice(earlier)
            song = _live(random, original) if chance < _LIVE else _cover(random, original, artist.name)
        else:
            song = artist.song()
            earlier.append(song)
        yield song


class _Artist:
    """A way of writing: a genre, and of each kind of word and sentence only some."""

    def __init__(self, random: Random, vocabulary: Pools) -> None:
        self._random = random
        self.name = _expand(random, random.choice(_alternatives(ARTISTS)), _titled(vocabulary))
        self._genre = _Genre(*random.choice(list(GENRES.values())))
        self._words = {name: _some(random, pool, 0.5) for name, pool in vocabulary.items() if name in WORDS}
        self._phrases = {name: _some(random, pool, 0.7) for name, pool in vocabulary.items() if name in PHRASES}
        self._lines = {kind: _some(random, _lines(kind), 0.6) for kind in _KINDS}
        self._families = _some(random, _families(), 0.7)
        self._calls = _some(random, _alternatives(PHRASES["sound"]), 0.3)

    def song(self) -> SampleSong:
        """A song about a handful of words of this artist's."""
        subject = {name: _some(self._random, pool, 0.2) for name, pool in self._words.items()}
        pools = subject | self._phrases
        title = _expand(self._random, self._random.choice(_alternatives(TITLES)), _titled(pools))
        chorus = self._stanza(pools, title)
        prelude = self._stanza(pools)[:2]
        parts: dict[str, Callable[[], list[str]]] = {
            "V": lambda: self._stanza(pools),
            "P": lambda: prelude,
            "C": lambda: chorus,
            "B": lambda: self._bridge(pools),
        }
        stanzas = [parts[letter]() for letter in self._genre.shape]
        return _song(self.name, title, stanzas)

    def _stanza(self, pools: Pools, hook: str | None = None) -> list[str]:
        families = dict(zip("ABCD", self._random.sample(self._families, 4), strict=True))
        used: set[str] = set()
        lines = [self._line(pools, families[letter], used) for letter in self._genre.scheme]
        if hook:
            lines[0] = f"{hook}, {lines[0]}"
        return [_capital(self._call(line) if self._random.random() < self._genre.calls else line) for line in lines]

    def _line(self, pools: Pools, family: _Family, used: set[str]) -> str:
        """A line of the genre's length that ends on a rhyme not used before in the stanza."""
        line = word = ""
        for _ in range(8):
            kind = self._random.choice(_KINDS)
            words: list[str] = getattr(family, kind)
            word = self._random.choice([word for word in words if word not in used] or words)
            shape = self._random.choice(self._lines[kind]).replace("#", word)
            line = _expand(self._random, shape, pools)
            if self._genre.shortest <= len(line.split()) <= self._genre.longest:
                break
        used.add(word)
        return line

    def _bridge(self, pools: Pools) -> list[str]:
        call = self._random.choice(self._calls)
        return [f"{_capital(call)}, {call}, {call}", *self._stanza(pools)[:2], f"{_capital(call)}, {call}, {call}"]

    def _call(self, line: str) -> str:
        call = self._random.choice(self._calls)
        return f"{line}, {call}" if self._random.random() < 0.5 else f"{call}, {line}"


def _song(artist: str, title: str, stanzas: Sequence[Sequence[str]]) -> SampleSong:
    slugs = [re.sub(r"\W+", "+", name.lower()) for name in (artist, title)]
    lines = "  \r\n  \r\n".join("  \r\n".join(stanza) for stanza in stanzas)
    return SampleSong(artist, title, f"/{slugs[0][0]}/{slugs[0]}/{slugs[1]}.html", f"{lines}\r\n\r\n")


def _live(random: Random, song: SampleSong) -> SampleSong:
    """The same song on a stage: someone greets, the last stanza comes twice."""
    stanzas = [stanza.split("  \r\n") for stanza in song.text.strip().split("  \r\n  \r\n")]
    greeting = _expand(random, "Good evening {city}, this one is for {name}", _vocabulary())
    return _song(song.artist, f"{song.song} (Live)", [[greeting], *stanzas, stanzas[-1]])


def _cover(random: Random, song: SampleSong, artist: str) -> SampleSong:
    """The same song by another: a few lines are sung differently."""
    stanzas = [stanza.split("  \r\n") for stanza in song.text.strip().split("  \r\n  \r\n")]
    for stanza in random.sample(stanzas, 2):
        stanza[random.randrange(len(stanza))] = _capital(_expand(random, "{who} {deed} {when}", _vocabulary()))
    return _song(artist, song.song, stanzas)


def _expand(random: Random, shape: str, pools: Pools) -> str:
    while "{" in shape:
        shape = _SLOT.sub(lambda slot: random.choice(pools[slot[1]]), shape)
    for pattern, plural in _PLURAL:
        shape = pattern.sub(plural, shape)
    return _ARTICLE.sub(r"\1n ", shape).replace("-", " ")


def _some(random: Random, pool: Sequence[T], share: float) -> list[T]:
    return random.sample(pool, max(4, round(len(pool) * share)) if len(pool) > 4 else len(pool))


def _vocabulary() -> Pools:
    words = {name: text.split() for name, text in WORDS.items()}
    return words | {name: _alternatives(text) for name, text in PHRASES.items()}


def _titled(pools: Pools) -> Pools:
    """The pools with, beside each, one in capitals under its name in capitals."""
    return pools | {name.capitalize(): [word.title() for word in pools[name]] for name in WORDS}


def _alternatives(text: str) -> list[str]:
    return text.split(" | ")


def _lines(kind: str) -> list[str]:
    return [line.strip() for row in LINES[kind].splitlines() for line in row.split("|")]


def _families() -> list[_Family]:
    rows = [row.strip() for row in RHYMES.strip().splitlines()]
    return [_Family(*(part.partition(":")[2].split() for part in row.split("|"))) for row in rows]


def _capital(line: str) -> str:
    return line[0].upper() + line[1:]
