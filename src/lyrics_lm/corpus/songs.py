"""The door of the corpus: song files in, clean songs and named rejects out. Nothing is lost silently."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lyrics_lm.corpus.csv_records import count
from lyrics_lm.corpus.rows import Reject, Row, read_rows, reject
from lyrics_lm.corpus.text import clean
from lyrics_lm.errors import CorpusError
from lyrics_lm.params import CorpusParams

SCHEMA = {"artist": pl.String, "song": pl.String, "text": pl.String, "file": pl.String, "line": pl.Int64}


@dataclass(frozen=True)
class Songs:
    """`songs` has the columns of `SCHEMA`, in corpus order; `rejects` are the rows set aside."""

    songs: pl.DataFrame
    rejects: tuple[Reject, ...]


def read_songs(files: Sequence[Path], params: CorpusParams) -> Songs:
    """All songs of the files, sorted by file name; raises `CorpusError` when there are none, or when
    more than `corpus.max_rejects` rows had to be set aside."""
    songs: list[tuple[str, str, str, str, int]] = []
    rejects: list[Reject] = []
    for path in sorted(files, key=lambda file: file.name):
        for row in read_rows(path):
            judged = row if isinstance(row, Reject) else _song(path, row)
            if isinstance(judged, Reject):
                rejects.append(judged)
            else:
                songs.append(judged)
    _check(files, len(songs), rejects, params.max_rejects)
    return Songs(pl.DataFrame(songs, schema=SCHEMA, orient="row"), tuple(rejects))


def _song(path: Path, row: Row) -> tuple[str, str, str, str, int] | Reject:
    fault = _fault(row)
    text = "" if fault else clean(row.text)
    if fault or not text.strip():
        return reject(path, row.line, fault or "has no text", f"{row.artist}, {row.song}, {row.text}")
    return _name(row.artist), _name(row.song), text, path.name, row.line


def _fault(row: Row) -> str | None:
    """Why a row cannot be a song, before its text is cleaned."""
    if row.text is None:
        return "has no text"
    if not isinstance(row.text, str):
        return f"has a text that is not a string but {type(row.text).__name__}"
    if "\0" in row.text:
        return "holds a NUL character"
    for value in (row.text, row.artist, row.song):
        if isinstance(value, str) and not value.isascii() and (byte := _undecodable(value)):
            return byte
    return None


def _undecodable(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"is not UTF-8: byte 0x{ord(value[error.start]) & 0xFF:02x}"
    return None


def _name(value: object) -> str:
    return "" if value is None else unicodedata.normalize("NFC", " ".join(str(value).split()))


def _check(files: Sequence[Path], songs: int, rejects: Sequence[Reject], most: int) -> None:
    names = ", ".join(str(path) for path in files[:3]) or "the corpus (it has no files)"
    names += f" and {count(len(files) - 3, 'file')} more" if len(files) > 3 else ""
    first = f"{rejects[0].file}:{rejects[0].line} {rejects[0].reason}" if rejects else ""
    if len(rejects) > most:
        raise CorpusError(
            f"{names}: {count(len(rejects), 'row')} cannot be used, more than corpus.max_rejects = {most}; "
            f"the first: {first}; mend the file, or raise corpus.max_rejects in params.yaml"
        )
    if not songs:
        aside = f" ({count(len(rejects), 'row')} set aside, the first: {first})" if rejects else ""
        raise CorpusError(f"there is no song in {names}{aside}; give a file with at least one row of text")
