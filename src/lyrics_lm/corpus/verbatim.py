"""What stands word for word in the training songs: an index of their passages, and one of their lines.

Needs numpy alone: the serving side looks generated lines up in it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from lyrics_lm.errors import CorpusError

FOLDER = "verbatim"  # of the index, in the home of a workspace
GRAM = 24  # bytes that are hashed together
STRIDE = 8  # between the places of a song whose grams are indexed
LEAST = GRAM + STRIDE - 1  # a shared passage so long is always found: it holds an indexed place of the song
COMMON = 3  # a line that so many songs have belongs to none of them
WORTH = 12  # characters of a line that is worth looking up
_REPEATS = 16  # places of one gram that are followed up
_MADE_OF = "corpus.txt"
_GAP = "\0"  # where a line was left out, and between songs; matches nothing

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Passage:
    """Characters `start` to `end` of a text that stand in a training song."""

    start: int
    end: int
    song: int


class Verbatim:
    """The songs of a training split, indexed. `names` are theirs, in order.

    Lines that at least three songs have, and lines that their song repeats (refrains), are left out of the
    passages: to share those is no copying. The index takes 12 bytes for every 8 of text. Because every
    eighth place is indexed and every place of a text looked up, it misses nothing of `LEAST` bytes or more
    (the fixed-grid form of Manber, "Finding similar files in a large file system", 1994).
    """

    def __init__(
        self,
        data: Bytes,
        starts: npt.NDArray[np.int64],
        grams: Hashes,
        places: npt.NDArray[np.int64],
        lines: Hashes,
        owners: npt.NDArray[np.int64],
        names: Sequence[str],
    ) -> None:
        self._data, self._starts = data, starts  # all passages, and where each song's begin
        self._grams, self._places = grams, places  # sorted hashes, and where their grams are
        self._lines, self._owners = lines, owners  # sorted hashes of lines, and a song that has each
        self.names = names

    def passages(self, text: str) -> list[Passage]:
        """The longest passages of `text` that stand in a song, of `LEAST` bytes or more, by where they begin.
        They may overlap, and one may stand in several songs."""
        data = _bytes(text)
        begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))  # of each character

        def characters(place: int, side: Literal["left", "right"]) -> int:
            return int(np.searchsorted(begins, place, side=side))

        found: set[Passage] = set()
        seen: dict[int, int] = {}  # by how far text and song are shifted against each other: where the last one ended
        for at, place in self._hits(data):
            if at < seen.get(place - at, 0):
                continue
            before = _alike(data[:at][::-1], self._data[:place][::-1])
            after = _alike(data[at:], self._data[place:])
            seen[place - at] = at + after
            if before + after >= LEAST:
                song = int(np.searchsorted(self._starts, place, side="right")) - 1
                start, end = characters(at - before, "left"), characters(at + after, "right") - 1
                found.add(Passage(start, end, song))
        return sorted(found, key=lambda passage: (passage.start, -passage.end))

    def line(self, line: str) -> str | None:
        """The name of a song that has this line, but for blanks around it; None where no song has, or where it
        is too short to tell."""
        wanted = line.strip()
        if len(wanted) < WORTH:
            return None
        key = np.frombuffer(_line_digest(wanted), dtype="<u8")[0]
        place = int(np.searchsorted(self._lines, key))
        known = place < len(self._lines) and self._lines[place] == key
        return self.names[int(self._owners[place])] if known else None

    def _hits(self, data: Bytes) -> Iterator[tuple[int, int]]:
        """Places of a text and of the songs that hold the same gram, by places of the text."""
        if len(data) < GRAM or not len(self._grams):
            return
        hashes = _gram_hashes(data, 1)
        first, last = (np.searchsorted(self._grams, hashes, side=side) for side in ("left", "right"))
        for at in np.flatnonzero(last > first):
            for place in self._places[first[at] : min(last[at], first[at] + _REPEATS)]:
                if np.array_equal(data[at : at + GRAM], self._data[place : place + GRAM]):
                    yield int(at), int(place)

    def save(self, folder: Path, digest: str) -> None:
        """Write the index into an empty folder; `digest` names the corpus."""
        for name, array in self._arrays().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        (folder / "names.json").write_text(json.dumps(list(self.names)))
        (folder / _MADE_OF).write_text(digest)

    def _arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {
            "data": self._data,
            "starts": self._starts,
            "grams": self._grams,
            "places": self._places,
            "lines": self._lines,
            "owners": self._owners,
        }


def build(texts: Sequence[str], names: Sequence[str]) -> Verbatim:
    """The index of some songs, clean texts and their names."""
    songs = [text.split("\n") for text in texts]
    counts = Counter(line for song in songs for line in set(song))
    common = {line for line, count in counts.items() if count >= COMMON}
    kept = [_bytes(_own(song, common) + _GAP * GRAM) for song in songs]
    lengths = np.array([len(data) for data in kept], dtype=np.int64)
    data = np.concatenate(kept) if kept else np.empty(0, np.uint8)
    hashes = _gram_hashes(data, STRIDE) if len(data) >= GRAM else np.empty(0, np.uint64)
    places = np.arange(len(hashes)) * STRIDE
    whole = np.flatnonzero(data[places] != 0)  # a gram that begins in a gap is none
    order = whole[np.argsort(hashes[whole])]
    lines, owners = _line_table(songs)
    return Verbatim(data, np.cumsum(lengths) - lengths, hashes[order], places[order], lines, owners, names)


def load(folder: Path) -> Verbatim:
    """An index that was saved; its arrays are mapped, not read. Raises `CorpusError` for a damaged one."""
    try:
        data, starts, grams, places, lines, owners = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("data", "starts", "grams", "places", "lines", "owners")
        )
        names = json.loads((folder / "names.json").read_text())
    except (ValueError, EOFError) as error:
        raise CorpusError(f"{folder} is damaged ({error}); the next delivery makes it anew") from error
    return Verbatim(data, starts, grams, places, lines, owners, names)


def made_of(folder: Path) -> str | None:
    """The corpus of the index in a folder; None where there is none."""
    try:
        return (folder / _MADE_OF).read_text()
    except FileNotFoundError:
        return None


def _own(lines: Sequence[str], common: set[str]) -> str:
    """A song without the lines that are not its own: each run of them leaves a gap."""
    times = Counter(lines)
    return "\n".join(_GAP if line and (line in common or times[line] > 1) else line for line in lines)


def _line_table(songs: Sequence[Sequence[str]]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of all lines worth looking up, sorted, and the first song that has each."""
    first: dict[str, int] = {}
    for place, song in enumerate(songs):
        for line in song:
            if len(line) >= WORTH and line not in first:
                first[line] = place
    hashes = np.frombuffer(b"".join(map(_line_digest, first)), dtype="<u8")
    order = np.argsort(hashes)
    return hashes[order], np.array(list(first.values()), dtype=np.int64)[order]


def _line_digest(line: str) -> bytes:
    return hashlib.blake2b(line.strip().encode(), digest_size=8).digest()


def _bytes(text: str) -> Bytes:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _gram_hashes(data: Bytes, stride: int) -> Hashes:
    """A hash of the gram at every so many-th place of some bytes: its three words, mixed one into the next
    as splitmix64 does (Steele et al., 2014)."""
    grams = np.lib.stride_tricks.sliding_window_view(data, GRAM)[::stride]
    words = np.ascontiguousarray(grams).view("<u8")
    mixed = np.zeros(len(words), np.uint64)
    for column in range(words.shape[1]):
        mixed = (mixed ^ words[:, column]) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _alike(one: Bytes, other: Bytes) -> int:
    """How many bytes two runs share from their beginning."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length
