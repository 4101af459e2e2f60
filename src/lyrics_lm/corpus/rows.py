"""Rows of a song file with the line each begins on: CSV, JSON lines or Parquet. Knows columns, not songs.

A row that cannot be taken apart becomes a `Reject`; the rows around it are still read.
"""

import csv
from _csv import Reader  # what csv.reader returns; the public module does not name it
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import polars as pl

from lyrics_lm.errors import CorpusError

TEXT = ("text", "lyrics", "lyric")
ARTIST = ("artist",)
SONG = ("song", "title", "track")

T = TypeVar("T")

_HEAD = 65536
_CONTROL = bytes({*range(9), 11, *range(14, 27), *range(28, 32), 127})  # no text holds many of these
_EXCERPT = 120
_LONGEST_FIELD = 2**31 - 1


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


def count(number: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _csv_rows(path: Path) -> Iterator[Row | Reject]:
    lines = _text_lines(path)
    records = _csv_records(path, lines)
    _, header = next(records, (0, []))
    if not isinstance(header, list):
        raise CorpusError(f"{path}:{header.line}: the header is broken ({header.reason}); mend its quotes")
    named = {name.strip().lower(): place for place, name in reversed(list(enumerate(header)))}
    text, artist, song = (_pick(named, names) for names in (TEXT, ARTIST, SONG))
    if text is None:
        raise _no_text_column(path, header)
    for line, fields in records:
        if isinstance(fields, Reject):
            yield fields
        elif len(fields) != len(header):
            reason = f"has {count(len(fields), 'column')} where the header has {len(header)}"
            yield reject(path, line, reason, lines[line - 1])
        else:
            yield Row(line, *(None if place is None else fields[place] for place in (artist, song, text)))


def _csv_records(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, list[str] | Reject]]:
    """Records of a CSV file with the number of their first line; blank lines are none.

    A quote left open swallows the songs after it, so where quoting breaks, reading starts again on the
    next line and looks for the beginning of a record.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    reader, base, begin = _csv_reader(lines, 0), 0, 0
    width, spans_lines = 0, False
    while begin < len(lines):
        try:
            fields = next(reader)
        except csv.Error as error:
            met = base + reader.line_num
            after = _next_record(lines, begin + 1, width, spans_lines)
            yield begin + 1, reject(path, begin + 1, _quoting_fault(error, begin, met, after, len(lines)), lines[begin])
            reader, base, begin = _csv_reader(lines, after), after, after
            continue
        end = base + reader.line_num
        if fields:
            width = width or len(fields)
            spans_lines = spans_lines or end - begin > 1
            yield begin + 1, fields
        begin = end


def _csv_reader(lines: Sequence[str], start: int) -> Reader:
    return csv.reader(map(lines.__getitem__, range(start, len(lines))), strict=True)


def _next_record(lines: Sequence[str], start: int, width: int, spans_lines: bool) -> int:
    """Index of the first line from `start` on that begins a whole record, or the end.

    Where songs span lines they are quoted, so there a line without a quote is one of a broken song's,
    however many commas it has.
    """
    for index in range(start, len(lines)):
        if spans_lines and '"' not in lines[index]:
            continue
        try:
            fields = next(_csv_reader(lines, index))
        except csv.Error:
            continue
        if len(fields) == width:
            return index
    return len(lines)


def _quoting_fault(error: csv.Error, begin: int, met: int, after: int, total: int) -> str:
    """Why a record broke that begins at index `begin`, where line number `met` could not be read."""
    swallowed = count(after - begin, "line")
    if "unexpected end" in str(error):
        return f"a quote opened here is still open at the end of the file, line {total}; it swallowed {swallowed}"
    if met == after + 1:
        return f"a quote opened here is not closed before the next row; it swallowed {swallowed}"
    return f"a quote inside the text is not doubled (line {met}: {error}); it spoiled {swallowed}"


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
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CorpusError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); write it again") from error
    named = {name.strip().lower(): name for name in reversed(frame.columns)}
    text, artist, song = (_pick(named, names) for names in (TEXT, ARTIST, SONG))
    if text is None:
        raise _no_text_column(path, frame.columns)
    empty = [None] * len(frame)
    columns = (frame[name] if name else empty for name in (artist, song, text))
    for line, values in enumerate(zip(*columns, strict=True), start=1):
        yield Row(line, *values)


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


def _no_text_column(path: Path, columns: Sequence[str]) -> CorpusError:
    found = ", ".join(columns) or "none, it is empty"
    return CorpusError(f"{path} has no text column; columns found: {found}; name one of them {' or '.join(TEXT[:2])}")
