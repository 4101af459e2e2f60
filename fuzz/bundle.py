"""Fuzzes the bundle reader: any bytes in place of a file of a bundle give a bundle or a `BundleError`, nothing else.

pip install -e '.[fuzz]' --constraint constraints.txt && python fuzz/bundle.py -max_total_time=600
"""

import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from lyrics_lm import bundle
    from lyrics_lm.errors import BundleError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from bundles import bigram_bundle  # after the path that it lies on

PLACE = Path(tempfile.mkdtemp())
WHOLE = bigram_bundle(PLACE / "whole").path
NAMES = (bundle.CONTRACT, bundle.CONTRACT, bundle.MODEL, bundle.TOKENIZER, "stranger.bin")


def one(data: bytes) -> None:
    """The first byte chooses the file, the second whether the bytes replace it or are put into it at some place."""
    if len(data) < 3:
        return
    folder = PLACE / "fuzzed"
    shutil.copytree(WHOLE, folder, dirs_exist_ok=True)
    file = folder / NAMES[data[0] % len(NAMES)]
    before = file.read_bytes() if file.exists() else b""
    place = data[2] * len(before) // 256
    file.write_bytes(data[3:] if data[1] % 2 else before[:place] + data[3:] + before[place + len(data[3:]) :])
    try:
        bundle.read(folder)
    except BundleError as error:
        if "\n" in str(error):
            raise AssertionError("an error of several lines") from error
    finally:
        (folder / NAMES[-1]).unlink(missing_ok=True)


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-rss_limit_mb=1000", "-timeout=10"], one)
    atheris.Fuzz()
