"""Fuzzes the readers of song files: any bytes give songs and rejects, or a `CorpusError`, nothing else.

pip install -e '.[fuzz]' --constraint constraints.txt && python fuzz/corpus.py -max_total_time=600
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from lyrics_lm.corpus.songs import read_songs
    from lyrics_lm.errors import CorpusError
    from lyrics_lm.params import CorpusParams

PLACE = Path(tempfile.mkdtemp())
BEGINNINGS = {
    ".csv": (b"artist,song,link,text\n", b'a,b,c,"love is\n'),
    ".jsonl": (b'{"artist": "a", "song": "b", "text": "love', b'{"text": ['),
    ".parquet": (b"PAR1", b""),
}


def one(data: bytes) -> None:
    """The first byte chooses the kind of file and how it begins."""
    if not data:
        return
    suffix = list(BEGINNINGS)[data[0] % len(BEGINNINGS)]
    beginning = (*BEGINNINGS[suffix], b"")[data[0] // 16 % 3]
    file = PLACE / f"songs{suffix}"
    file.write_bytes(beginning + data[1:])
    try:
        read_songs([file], CorpusParams())
    except CorpusError as error:
        if "\n" in str(error):
            raise AssertionError("an error of several lines") from error


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-rss_limit_mb=2000", "-timeout=10"], one)
    atheris.Fuzz()
