"""Claim: a bigram is counted, not trained: one pass over the text reaches at once what gradient steps only approach.

The `baseline` is how tutorials do it: a table of logits, `nn.Embedding(V, V)`, trained by AdamW at a learning
rate of 1e-2 for 10,000 steps on 32 random windows of 8 tokens. `counting` is `training/bigram.py`. Both learn
from the same training tokens and are measured on the same validation tokens, all of them, in nats per token;
importing torch and preparing the corpus are not timed. Then the training tokens, repeated to 100 MB of text,
are counted to see how fast a large corpus goes.

    python benchmarks/bigram.py [songs.csv]     without a file, on the generated sample songs
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lyrics_lm.corpus import dataset, sample
from lyrics_lm.corpus.splits import TRAIN, VALIDATION
from lyrics_lm.corpus.tokenizer import Tokens
from lyrics_lm.params import CorpusParams, TokenizerParams
from lyrics_lm.training import bigram

RUNS = 5  # of counting; the baseline runs once
STEPS, EVERY = 10_000, 1000
BATCH, CONTEXT = 32, 8
LEARNING_RATE = 1e-2
LARGE = 100e6  # bytes of text


@dataclass(frozen=True)
class Corpus:
    train: Tokens
    validation: Tokens
    vocab_size: int
    bytes_per_token: float


def load(songs: Path | None) -> Corpus:
    """The songs as `lyrics-lm` prepares them: a token is a character."""
    with tempfile.TemporaryDirectory() as place:
        path, folder = songs or Path(place) / "songs.csv", Path(place) / "corpus"
        if songs is None:
            sample.write(path)
        summary = dataset.prepare(
            [path], corpus=CorpusParams(), tokenizer=TokenizerParams(), digest="", directory=folder
        )
        train, validation = (np.array(dataset.load_tokens(folder, split)) for split in (TRAIN, VALIDATION))
        text = dataset.load_tokenizer(folder).decode(train.tolist(), skip_special_tokens=False)
    return Corpus(train, validation, summary.vocab_size, len(text.encode()) / len(train))


def counting(corpus: Corpus) -> tuple[float, float]:
    """Median seconds to the table, and its validation loss."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        table = bigram.count(corpus.train, corpus.vocab_size)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), bigram.mean_loss(table, corpus.validation)


def baseline(corpus: Corpus) -> list[tuple[int, float, float]]:
    """(step, seconds of training so far, validation loss) every so many steps; measuring is not timed."""
    torch.manual_seed(1)
    text = torch.from_numpy(corpus.train.astype(np.int64))
    held_out = torch.from_numpy(corpus.validation.astype(np.int64))
    table = nn.Embedding(corpus.vocab_size, corpus.vocab_size)
    optimiser = torch.optim.AdamW(table.parameters(), lr=LEARNING_RATE)
    curve, seconds = [], 0.0
    for first in range(0, STEPS, EVERY):
        start = time.perf_counter()
        for _ in range(EVERY):
            starts = torch.randint(len(text) - CONTEXT, (BATCH,))
            windows = torch.stack([text[at : at + CONTEXT + 1] for at in starts.tolist()])
            loss = F.cross_entropy(table(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        seconds += time.perf_counter() - start
        log_probabilities = table.weight.detach().log_softmax(dim=1).numpy()
        curve.append((first + EVERY, seconds, bigram.mean_loss(log_probabilities, held_out.numpy())))
    return curve


def throughput(corpus: Corpus) -> tuple[float, float]:
    """Megabytes of text, and how many are counted in a second."""
    times = round(LARGE / (len(corpus.train) * corpus.bytes_per_token))
    tokens = np.tile(corpus.train, times)
    megabytes = len(tokens) * corpus.bytes_per_token / 1e6
    start = time.perf_counter()
    bigram.count(tokens, corpus.vocab_size)
    return megabytes, megabytes / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path, nargs="?", help="song file; the sample songs if there is none")
    songs = parser.parse_args().songs
    corpus = load(songs)
    size = len(corpus.train) * corpus.bytes_per_token / 1e6
    print(f"{songs.name if songs else 'sample songs'}: {len(corpus.train):,} training tokens ({size:.2f} MB), ", end="")
    print(f"{len(corpus.validation):,} for validation, vocabulary {corpus.vocab_size}")
    seconds, loss = counting(corpus)
    print(f"counting              {seconds * 1e3:10.1f} ms  {loss:.4f} nats/token, median of {RUNS}")
    curve = baseline(corpus)
    for step, spent, reached in curve:
        if step in (EVERY, STEPS // 2, STEPS):
            print(f"baseline {step:6} steps {spent * 1e3:10.1f} ms  {reached:.4f} nats/token ({reached - loss:+.4f})")
    ratio = curve[-1][1] / seconds
    print(f"counting is {ratio:,.0f}x faster than the baseline (nn.Embedding, AdamW {LEARNING_RATE:g}, ", end="")
    print(f"{STEPS:,} steps of {BATCH} x {CONTEXT} tokens) and {curve[-1][2] - loss:.4f} nats/token better")
    megabytes, rate = throughput(corpus)
    print(f"throughput: {megabytes:.0f} MB of text counted at {rate:.0f} MB/s")


if __name__ == "__main__":
    main()
