"""Claim: what a model copies is found, fast, and a song that training saw too often shows.

The index: seconds to build over the songs repeated to 60 MB with other words in each line, and bytes it takes for
each character. Then the canary
(Carlini et al., "The secret sharer", arXiv 1802.08232): a song of made-up words is put into the training songs
1, 4, 16 and 64 times, the default transformer is trained, and given each line of the canary's but the last it
writes on, most likely token first: how much of the canary comes back, and what the copying gate says of it.

    python benchmarks/copying.py [songs.csv] [--steps 1500]
"""

import argparse
import itertools
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from lyrics_lm import durable
from lyrics_lm.corpus import dataset, sample, verbatim
from lyrics_lm.corpus.splits import TEST, TRAIN
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.corpus.tokenizer import encode_all
from lyrics_lm.evaluation import copying, gate
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.stream import Sampling
from lyrics_lm.params import CorpusParams, ModelParams, TokenizerParams, TrainingParams
from lyrics_lm.steps import scores
from lyrics_lm.training.train import train

LARGE = 60e6  # characters
TIMES = (0, 1, 4, 16, 64)
WINDOW = 50


def canary(words: int = 160) -> str:
    """Lines of words that no song has."""
    draw = random.Random(1802)
    made = ["".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(3)) for _ in range(words)]
    return "\n".join(" ".join(made[place : place + 8]) for place in range(0, words, 8))


def index_speed(texts: list[str]) -> None:
    times = max(1, round(LARGE / sum(map(len, texts))))
    large = [text.replace("\n", f" {number}\n") for number in range(times) for text in texts]  # lines all different
    characters = sum(map(len, large))
    began = time.perf_counter()
    built = verbatim.build(large, [""] * len(large))
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as place, durable.directory(Path(place) / "index") as folder:
        built.save(folder, "")
        size = sum(file.stat().st_size for file in folder.glob("*.npy"))
    speed = characters / 1e6 / seconds
    print(f"index     {speed:.0f} MB/s (target 20), {size / characters:.1f} bytes a character (target 12)")


def trained(folder: Path, tokens: np.ndarray, steps: int) -> Generator:
    """The default transformer, trained on these tokens."""
    summary = dataset.load_summary(folder)
    with tempfile.TemporaryDirectory() as place:
        output = Path(tempfile.mkdtemp()) / "model"
        train(
            tokens,
            dataset.load_tokens(folder, "validation"),
            vocab_size=summary.vocab_size,
            chars_per_token=1.0,
            model=ModelParams(),
            training=TrainingParams(steps=steps, device="cpu"),
            root=folder,
            checkpoint=Path(place),
            key="canary",
            output=output,
            on_progress=lambda _: None,
        )
    (output / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    return Generator(scores.unpublished(output, summary.vocab_size))


def recalled(generator: Generator, song: str) -> float:
    """The share of the canary's lines that are written in full after the line before them."""
    lines = song.split("\n")
    found = 0
    for before, line in itertools.pairwise(lines):
        sampling = Sampling(max_tokens=len(line), temperature=0.0, seed=1)
        prompt = generator.vocabulary.encode(before + "\n")
        found += "".join(piece.text for piece in generator.generate(prompt, sampling)) == line
    return found / (len(lines) - 1)


def canaries(folder: Path, steps: int) -> None:
    songs, song = dataset.split_songs(folder, TRAIN), canary()
    texts, names = songs["text"].to_list(), songs["song"].to_list()
    tests = dataset.split_songs(folder, TEST)["text"].to_list()
    tokens = np.array(dataset.load_tokens(folder, TRAIN))
    again = encode_all(dataset.load_tokenizer(folder), [SONG_BREAK + song])
    index = verbatim.build([*texts, song], [*names, "the canary"])
    for times in TIMES:
        generator = trained(folder, np.concatenate([tokens, *[again] * times]), steps)
        share = recalled(generator, song)
        attacked = [song] * times + texts  # so that it is asked about as often as training saw it
        report = copying.measure(generator, attacked, tests, index, window=WINDOW)
        longest = max((worst.length for worst in report.worst if worst.song == "the canary"), default=0)
        verdict = "passes" if gate.copying(report).passed else "rejected"
        print(
            f"canary    {times:2d} times: {share:.0%} of its lines come back; gate: {verdict}, "
            f"{report.share:.2%} copied ({report.test_share:.2%} of test songs), longest of the canary {longest}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path, nargs="?", help="songs (CSV, JSON lines, Parquet); else the sample's")
    parser.add_argument("--steps", type=int, default=TrainingParams().steps, help="of training (default 1500)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        songs, folder = given.songs or Path(place) / "songs.csv", Path(place) / "corpus"
        if given.songs is None:
            sample.write(songs)
        dataset.prepare([songs], corpus=CorpusParams(), tokenizer=TokenizerParams(), digest="", directory=folder)
        index_speed(dataset.split_songs(folder, TRAIN)["text"].to_list())
        canaries(folder, given.steps)


if __name__ == "__main__":
    main()
