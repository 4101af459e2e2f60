"""Claim: a 75 MB file of songs becomes cleaned, split, deduplicated token ids faster than the plain way
takes to make token ids alone.

Ours is `corpus.dataset.prepare`, from the CSV to the finished folder. The baseline is how notebooks do
it: `pandas.read_csv`, a vocabulary from `set()`, a list comprehension from characters to ids; nothing is
cleaned, compared or written. Each run has a process of its own, in turn; the medians are compared.

    python benchmarks/data_preparation.py [--songs 57650]
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from random import Random

RUNS = 3
SONGS = 57_650  # of the Spotify Million Song Dataset
REPRINTS = 0.03


def write_songs(path: Path, count: int) -> None:
    """Songs of the real data set's size and form, from shuffled lines of the sample generator's."""
    from lyrics_lm.corpus import sample

    random = Random(1)
    lines = list({line for song in sample.generate(3000) for line in song.text.split("  \r\n") if line.strip()})
    recent: deque[list[str]] = deque(maxlen=1000)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(sample.HEADER)
        for number in range(count):
            song = list(random.choice(recent)) if recent and random.random() < REPRINTS else random.choices(lines, k=29)
            song[random.randrange(len(song))] = random.choice(lines)
            recent.append(song)
            writer.writerow(["Artist", f"Song {number}", f"/a/{number}.html", "  \r\n".join(song) + "\r\n\r\n"])


def ours(path: Path) -> int:
    from lyrics_lm.corpus import dataset
    from lyrics_lm.params import CorpusParams, TokenizerParams

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        summary = dataset.prepare(
            [path], corpus=CorpusParams(), tokenizer=TokenizerParams(), digest="", directory=Path(folder) / "out"
        )
    print(f"{summary.songs} songs, {summary.duplicates} like an earlier one", file=sys.stderr)
    return sum(summary.tokens.values())


def baseline(path: Path) -> int:
    import pandas as pd

    text = "".join(pd.read_csv(path)["text"]).lower()
    ids = {char: i for i, char in enumerate(sorted(set(text)))}
    return len([ids[char] for char in text])


def measure(way: str, path: Path) -> dict[str, float]:
    """Seconds and peak megabytes of one run in a fresh process, imports included."""
    command = [sys.executable, __file__, "--run", way, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, float] = json.loads(done.stdout)
    print(f"  {way:9}{result['seconds']:7.2f} s {result['megabytes']:7.0f} MB")
    return result


def run(way: str, path: Path) -> None:
    start = time.perf_counter()
    tokens = {"ours": ours, "baseline": baseline}[way](path)
    seconds = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"seconds": seconds, "megabytes": megabytes, "tokens": tokens}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=SONGS)
    parser.add_argument("--run", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run and arguments.run[0] == "write":
        return write_songs(Path(arguments.run[1]), arguments.songs)
    if arguments.run:
        return run(arguments.run[0], Path(arguments.run[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "songs.csv"
        # Written by another process too: a child's peak begins at what its parent holds.
        write = [sys.executable, __file__, "--songs", str(arguments.songs), "--run", "write", str(path)]
        subprocess.run(write, check=True)
        compare(path)


def compare(path: Path) -> None:
    size = path.stat().st_size / 1e6
    print(f"{size:.1f} MB of songs")
    runs = [(measure("ours", path), measure("baseline", path)) for _ in range(RUNS)]
    seconds = [statistics.median(run[way]["seconds"] for run in runs) for way in (0, 1)]
    peaks = [max(run[way]["megabytes"] for run in runs) for way in (0, 1)]
    print(f"ours      {seconds[0]:.2f} s, {size / seconds[0]:.1f} MB/s, peak {peaks[0]:.0f} MB")
    print(f"baseline  {seconds[1]:.2f} s, {size / seconds[1]:.1f} MB/s, peak {peaks[1]:.0f} MB (pandas.read_csv, list)")
    print(f"ratio     {seconds[1] / seconds[0]:.2f}x faster")


if __name__ == "__main__":
    main()
