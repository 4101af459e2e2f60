"""What a song's text looks like everywhere: one clean form, and the mark that stands between songs.

Standard library alone: the serving side imports it.
"""

import re
import unicodedata

# Cleaning leaves at most two newlines in a row, so three can only stand between songs.
SONG_BREAK = "\n\n\n"

_GAP = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """`text` with one kind of line end, no trailing blanks, no empty line at either end and never two
    in a row, in Unicode NFC. Cleaning twice changes nothing more."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    trimmed = "\n".join([line.rstrip() for line in lines])
    closed = _GAP.sub("\n\n", trimmed) if SONG_BREAK in trimmed else trimmed
    return unicodedata.normalize("NFC", closed.strip("\n"))
