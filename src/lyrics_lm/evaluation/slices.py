"""A score taken apart: by artist, by length of song, and by kind of line. Pure; knows no model and no file."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lyrics_lm.corpus.verbatim import WORTH
from lyrics_lm.evaluation.gate import interval
from lyrics_lm.evaluation.scoring import Scored
from lyrics_lm.records import Slice, SlicesReport

NEW, REPEATED, KNOWN = "new", "repeated in its song", "in a training song"
UNKNOWN_TO_TRAINING = "in no training song"
_FEWEST = 2  # songs of an artist whose score says anything
_LENGTHS = ("short", "middle", "long")

Part = tuple[int, float, int]  # a song's place, bits, characters


def slices(
    scored: Scored, texts: Sequence[str], artists: Sequence[str], in_training: Callable[[str], bool]
) -> SlicesReport:
    """Scores of parts of the songs `texts`. A token counts for the line that its first character stands in, the
    line end for the line it ends. Lines are `REPEATED` where they stood in their song before, else `KNOWN` where
    `in_training` says so, else `NEW`; artists by worst score first."""
    report = scored.report
    whole = list(zip(range(len(texts)), report.bits, report.chars, strict=True))
    lengths = _tercile_names(report.chars)
    lines: dict[str, list[Part]] = defaultdict(list)
    worth, shared = 0, 0
    for place, text in enumerate(texts):
        seen: set[str] = set()
        for line, bits, chars in _lines(text, scored.nats[place], scored.begins[place]):
            known = in_training(line)
            if len(line.strip()) >= WORTH:
                worth, shared = worth + 1, shared + known
            kind = REPEATED if line.strip() and line in seen else KNOWN if known else NEW
            seen.add(line)
            lines[kind].append((place, bits, chars))
            if not known:
                lines[UNKNOWN_TO_TRAINING].append((place, bits, chars))
    by_artist = _grouped(zip(artists, whole, strict=True))
    enough = {artist: parts for artist, parts in by_artist.items() if len(parts) >= _FEWEST}
    found = (
        *(_slice("lines", name, lines[name]) for name in (NEW, REPEATED, KNOWN, UNKNOWN_TO_TRAINING) if lines[name]),
        *(_slice("length", name, parts) for name, parts in _grouped(zip(lengths, whole, strict=True)).items()),
        *sorted((_slice("artist", name, parts) for name, parts in enough.items()), key=lambda one: -one.bits_per_char),
    )
    return SlicesReport(shared / worth if worth else 0.0, found)


def _lines(text: str, nats: npt.NDArray[np.float64], begins: npt.NDArray[np.int64]) -> Iterator[tuple[str, float, int]]:
    """Lines of a song with their bits, and characters with the line end."""
    start = 0
    for line in text.split("\n"):
        end = min(start + len(line) + 1, len(text))
        inside = (begins >= start) & (begins < end)
        yield line, float(nats[inside].sum() / np.log(2)), end - start
        start = end


def _tercile_names(chars: Sequence[int]) -> list[str]:
    first, second = np.quantile(chars, [1 / 3, 2 / 3])
    return [_LENGTHS[int(count > first) + int(count > second)] for count in chars]


def _grouped(named: "zip[tuple[str, Part]]") -> dict[str, list[Part]]:
    groups: dict[str, list[Part]] = defaultdict(list)
    for name, part in named:
        groups[name].append(part)
    return groups


def _slice(kind: str, name: str, parts: Sequence[Part]) -> Slice:
    """Songs are what is drawn anew, so the parts of one are put together first."""
    of_songs: dict[int, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))
    for place, bits, chars in parts:
        of_songs[place] += (bits, chars)
    table = np.array(list(of_songs.values()))
    spread = interval(table[:, 0], table[:, 1])
    low, high = (end if math.isfinite(end) else None for end in (spread.low, spread.high))
    return Slice(kind, name, len(table), int(table[:, 1].sum()), spread.difference, low, high)
