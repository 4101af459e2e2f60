"""Rows of a song file with the line each begins on: CSV, JSON lines or Parquet. Knows columns, not songs.

A row that cannot be taken apart becomes a `Reject`; the rows around it are still read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lyrics_lm.corpus import csv_records
from lyrics_lm.corpus.csv_records import Broken, Record
from lyrics_lm.errors import CorpusError

TEXT = ("text", "lyrics", "lyric")
ARTIST = ("artist",)
SONG = ("song", "title", "track")

T = TypeVar("T")

_HEAD = 65536
_CONTROL = bytes({*range(9), 11, *range(14, 27), *range(28, 32), 127})  # no text holds many of these
_EXCERPT = 120
# A Parquet file may unpack to so many bytes, or to so many times its own size; songs come nowhere near.
_UNPACKED, _RATIO = 2**28, 100
_ROW = 64  # bytes that a row takes here, whatever is in it


class Row(NamedTuple):
    """One row as it stands in the file; `text` may be anything that the file can hold."""

    line: int
    artist: Any
    song: Any
    text: Any


@dataclass(frozen=True)
class Reject:
    """A row set aside: where it is, why, and how it begins."""

    file: str
    line: int
    reason: str
    excerpt: str


def read_rows(path: Path) -> Iterator[Row | Reject]:
    """All rows of the file, in order; raises `CorpusError` when it has none to give at all."""
    if not path.is_file():
        raise CorpusError(f"{path} is not a file; check the name")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(f"{path} is of no known kind; give a file that ends in {', '.join(_READERS)}")
    return reader(path)


def reject(path: Path, line: int, reason: str, raw: str) -> Reject:
    """A `Reject` whose excerpt is safe to print and to write as UTF-8."""
    excerpt = raw[:_EXCERPT].encode(errors="backslashreplace").decode()
    return Reject(path.name, line, reason, excerpt)


def _csv_rows(path: Path) -> Iterator[Row | Reject]:
    lines = _text_lines(path)
    records = csv_records.read(lines)
    header = next(records, Record(1, []))
    if isinstance(header, Broken):
        raise CorpusError(f"{path}:{header.line}: the header is broken ({header.reason}); mend its quotes")
    named = {name.strip().lower(): place for place, name in reversed(list(enumerate(header.fields)))}
    text, artist, song = (_pick(named, names) for names in (TEXT, ARTIST, SONG))
    if text is None:
        raise _no_text_column(path, header.fields)
    for record in records:
        if isinstance(record, Broken):
            yield reject(path, record.line, record.reason, lines[record.line - 1])
        else:
            values = (None if place is None else record.fields[place] for place in (artist, song, text))
            yield Row(record.line, *values)


def _json_rows(path: Path) -> Iterator[Row | Reject]:
    columns: list[str] = []
    for line, raw in enumerate(_text_lines(path), start=1):
        if not raw.strip():
            continue
        if not columns and raw.lstrip().startswith("["):
            raise CorpusError(f"{path} is one JSON array; write one object per line, as: jq -c '.[]'")
        try:
            fields = msgspec.json.decode(raw.encode(errors="surrogateescape"), type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError) as error:
            yield reject(path, line, f"is not a JSON object in UTF-8: {error}", raw)
            continue
        if not columns and not any(name.strip().lower() in TEXT for name in fields):
            raise _no_text_column(path, list(fields))
        columns = columns or list(fields)
        named = {name.strip().lower(): value for name, value in fields.items()}
        yield Row(line, _pick(named, ARTIST), _pick(named, SONG), _pick(named, TEXT))


def _parquet_rows(path: Path) -> Iterator[Row | Reject]:
    most = max(_UNPACKED, _RATIO * path.stat().st_size)
    try:
        if _unpacked(path) > most:
            raise _bomb(path, most)
        names = list(pl.read_parquet_schema(path))
        named = {name.strip().lower(): name for name in reversed(names)}
        text, artist, song = (_pick(named, names) for names in (TEXT, ARTIST, SONG))
        if text is None:
            raise _no_text_column(path, names)
        frame = pl.read_parquet(path, columns=[name for name in (artist, song, text) if name])
        if _written_out(frame) > most:
            raise _bomb(path, most)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); write it again") from error
    empty = [None] * len(frame)
    columns = (frame[name] if name else empty for name in (artist, song, text))
    for line, values in enumerate(zip(*columns, strict=True), start=1):
        yield Row(line, *values)


def _unpacked(path: Path) -> int:
    """Bytes that the file says it takes once it is read, at least."""
    about = pq.read_metadata(path)
    columns = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    return max(int(columns), _ROW * int(about.num_rows))


_READERS: Mapping[str, Callable[[Path], Iterator[Row | Reject]]] = {
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".json": _json_rows,
    ".parquet": _parquet_rows,
}


def _text_lines(path: Path) -> list[str]:
    """Lines with their ends; bytes that are not UTF-8 are kept as surrogates, for the row to be named."""
    try:
        with open(path, "rb") as binary:
            head = binary.read(_HEAD)
        if _is_binary(head):
            raise CorpusError(f"{path} is a binary file, or text in another encoding; save it as text in UTF-8")
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return list(file)
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}); check its owner and mode") from error


def _is_binary(head: bytes) -> bool:
    controls = len(head) - len(head.translate(None, _CONTROL))
    return controls * 100 > len(head)


def _pick(named: Mapping[str, T], names: Sequence[str]) -> T | None:
    return next((named[name] for name in names if name in named), None)


def _written_out(frame: pl.DataFrame) -> int:
    """Bytes of all texts, each in its own place: what is packed once, and held once, may stand in every row."""
    columns = frame.get_columns()
    plain = [column.str.len_bytes() for column in columns if column.dtype == pl.String]
    listed = [column.cat.len_bytes() for column in columns if isinstance(column.dtype, pl.Categorical | pl.Enum)]
    return sum(int(lengths.sum()) for lengths in (*plain, *listed))


def _bomb(path: Path, most: int) -> CorpusError:
    size = path.stat().st_size
    return CorpusError(
        f"{path} has {size} bytes and unpacks to more than {most // 10**6} MB; songs do not: give them as CSV"
    )


def _no_text_column(path: Path, columns: Sequence[str]) -> CorpusError:
    found = " ".join(", ".join(columns).split()) or "none, it is empty"
    return CorpusError(f"{path} has no text column; columns found: {found}; name one of them {' or '.join(TEXT[:2])}")
