"""Records of a CSV file, and where its quoting breaks, which lines that costs. Knows no columns by name.

A quote left open swallows the songs after it. So where quoting breaks, reading begins again on the next
line and looks for the beginning of a record: one mistake costs one song.
"""

import csv
import re
from _csv import Reader  # what csv.reader returns; the public module does not name it
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_LONGEST_FIELD = 2**31 - 1
_OPENING = re.compile(r'(?:^|,)"(?:"")*(?!")')  # of a quoted field; inside one, quotes are doubled
_LOOK = 20  # lines enough to tell a song from a list of rows


class Record(NamedTuple):
    """A record and the number of its first line."""

    line: int
    fields: list[str]


class Broken(NamedTuple):
    """Lines that are no record, from this number on."""

    line: int
    reason: str


def read(lines: Sequence[str]) -> Iterator[Record | Broken]:
    """Records of as many columns as the first one, the header; blank lines are none."""
    csv.field_size_limit(_LONGEST_FIELD)
    reader, base, begin, ahead = _reader(lines, 0), 0, 0, 0
    width, spans_lines = 0, False
    while begin < len(lines):
        try:
            fields = next(reader)
            end = after = base + reader.line_num
        except csv.Error as error:
            end, after = base + reader.line_num, _next_record(lines, begin + 1, width, spans_lines)
            yield Broken(begin + 1, _quoting_fault(error, begin, end, after, len(lines)))
        else:
            width = width or len(fields)
            spans_lines = spans_lines or end - begin > 1
            if fields and spans_lines and not _OPENING.search(lines[begin]):
                ahead = ahead if ahead >= end else _next_record(lines, end, width, spans_lines)
                after = ahead if _lacks_opening_quote(lines, begin, ahead, width) else end
            if after != end:
                yield Broken(begin + 1, f"the quote that opens this text is missing; it spoiled {after - begin} lines")
            elif len(fields) == width:
                yield Record(begin + 1, fields)
            elif fields:
                yield Broken(begin + 1, f"has {count(len(fields), 'column')} where the header has {width}")
        if after != end:
            reader, base = _reader(lines, after), after
        begin = after


def count(number: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _reader(lines: Sequence[str], start: int) -> Reader:
    return csv.reader(map(lines.__getitem__, range(start, len(lines))), strict=True)


def _next_record(lines: Sequence[str], start: int, width: int, spans_lines: bool) -> int:
    """Index of the first line from `start` on that begins a record, whole or broken, or the end.

    Where songs span lines they are quoted, so there a line that opens no quote is one of a broken
    song's, however many commas it has, until a closing quote has been seen.
    """
    for index in range(start, len(lines)):
        if spans_lines and not _OPENING.search(lines[index]) and not _closes(lines[index - 1]):
            continue
        try:
            begins = len(next(_reader(lines, index))) == width
        except csv.Error:
            begins = ',"' in lines[index]
        if begins:
            return index
    return len(lines)


def _lacks_opening_quote(lines: Sequence[str], begin: int, after: int, width: int) -> bool:
    """Whether a line that opens no quote and those after it, up to the next record, are the lines of one song:
    a quote closes the last of them, none opens before, and few look like rows."""
    between = lines[begin + 1 : min(after - 1, begin + _LOOK)]
    like_rows = sum(line.count(",") == width - 1 for line in between)
    return (
        _closes(lines[after - 1])
        and 2 * like_rows <= len(between)
        and not any(_OPENING.search(line) for line in between)
    )


def _closes(line: str) -> bool:
    """Whether a quote opened earlier may end with this line."""
    return line.rstrip().endswith('"') and line.count('"') % 2 == 1


def _quoting_fault(error: csv.Error, begin: int, met: int, after: int, total: int) -> str:
    """Why a record broke that begins at index `begin`, where line number `met` could not be read."""
    swallowed = count(after - begin, "line")
    if "unexpected end" in str(error):
        return f"a quote opened here is still open at the end of the file, line {total}; it swallowed {swallowed}"
    if met == after + 1:
        return f"a quote opened here is not closed before the next row; it swallowed {swallowed}"
    return f"a quote inside the text is not doubled (line {met}: {error}); it spoiled {swallowed}"
