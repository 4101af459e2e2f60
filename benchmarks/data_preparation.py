"""Claim: 75 MB of songs are token ids in well under ten seconds and 1.5 GB, near-duplicates found on the way.

`prepare` is the whole of ours, from the CSV to the finished folder: cleaning, near-duplicates, splits,
vocabulary, token ids, files. `tokenise` is the part of it that the baseline does too (and cleans). The
`baseline` is how notebooks do it: `pandas.read_csv`, a vocabulary from `set()`, a list comprehension
from characters to ids. Each run has a process of its own, in turn, imports included; medians are compared.

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


def prepare(path: Path) -> int:
    from lyrics_lm.corpus import dataset
    from lyrics_lm.params import CorpusParams, TokenizerParams

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        summary = dataset.prepare(
            [path], corpus=CorpusParams(), tokenizer=TokenizerParams(), digest="", directory=Path(folder) / "out"
        )
    return sum(summary.tokens.values())


def tokenise(path: Path) -> int:
    from lyrics_lm.corpus.songs import read_songs
    from lyrics_lm.corpus.tokenizer import build, encode_all
    from lyrics_lm.params import CorpusParams, TokenizerParams

    texts = read_songs([path], CorpusParams()).songs["text"].to_list()
    return len(encode_all(build(texts, TokenizerParams()), texts))


def baseline(path: Path) -> int:
    import pandas as pd

    text = "".join(pd.read_csv(path)["text"]).lower()
    ids = {char: i for i, char in enumerate(sorted(set(text)))}
    return len([ids[char] for char in text])


WAYS = {"prepare": prepare, "tokenise": tokenise, "baseline": baseline}


def run(way: str, path: Path) -> None:
    start = time.perf_counter()
    tokens = WAYS[way](path)
    seconds = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"seconds": seconds, "megabytes": megabytes, "tokens": tokens}))


def measure(way: str, path: Path) -> dict[str, float]:
    """Seconds and peak megabytes of one run in a fresh process."""
    command = [sys.executable, __file__, "--run", way, str(path)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


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
    print(f"{size:.1f} MB of songs, median of {RUNS} runs each")
    runs = [{way: measure(way, path) for way in WAYS} for _ in range(RUNS)]
    seconds = {way: statistics.median(run[way]["seconds"] for run in runs) for way in WAYS}
    for way in WAYS:
        peak = max(run[way]["megabytes"] for run in runs)
        ratio = seconds["baseline"] / seconds[way]
        print(
            f"{way:9}{seconds[way]:6.2f} s {size / seconds[way]:6.1f} MB/s, peak {peak:5.0f} MB, {ratio:.2f}x baseline"
        )


if __name__ == "__main__":
    main()
