"""Words as numbers: what a traffic record keeps of a prompt's words, whatever becomes of its text.

Standard library alone: the service calls it.
"""

import re
import zlib

BUCKETS = 4096
_MOST = 200  # words of a prompt that are looked at
_WORD = re.compile(r"\w+")


def buckets(text: str) -> tuple[int, ...]:
    """The hashed words of a text, sorted, so that neither spelling nor order is kept. About ten words of a
    language's fifty thousand share a bucket."""
    found = _WORD.findall(text.lower())[:_MOST]
    return tuple(sorted([zlib.crc32(word.encode(errors="replace")) % BUCKETS for word in found]))
