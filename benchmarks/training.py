"""Claim: the default transformer is as good as the tutorials' in a small part of its time, and better in the same.

The `lecture` is the attention model that tutorials build (`generation.py` has it: window 32, width 64, 4 heads,
4 layers), trained as they train it: 10,000 steps of AdamW at 1e-3 on 16 random windows; as written it also
measures its loss on 200 batches of each split every 100 steps. Ours has no more parameters and learns from the
same tokens. Each of our trainings is a process of its own that starts Python, imports torch, prepares the corpus
from its file, and trains; its time is all of that. All on one thread. Losses are nats per token on the same
random windows of 32 validation tokens.

    python benchmarks/training.py [songs.csv] [--seeds 3] [--longer]

`--longer` also gives ours a twelfth, a quarter and the whole of the lecture's time, at a context of 64, with
characters and with 1,000 BPE tokens: bits per character of all validation songs, windows of 64 side by side.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyrics_lm.corpus import dataset, sample
from lyrics_lm.corpus.splits import TRAIN, VALIDATION
from lyrics_lm.params import CorpusParams, ModelParams, TokenizerParams, TrainingParams
from lyrics_lm.training import ngram
from lyrics_lm.training.loop import Loop
from lyrics_lm.training.model import build

STEPS, BATCH, WINDOW = 10_000, 16, 32  # the lecture's
EVALUATIONS, BATCHES_EACH = 100, 400
OUR_STEPS, OUR_BATCH = 620, 32
TARGET, TARGET_AS_WRITTEN = 18, 35
WINDOWS = 1024  # of validation


@dataclass(frozen=True)
class Run:
    """What one training came to; seconds of its loop, and of all it took."""

    loss: float
    bits_per_char: float
    loop: float
    whole: float
    parameters: int


def prepared(songs: Path, kind: str) -> Path:
    folder = Path(tempfile.mkdtemp()) / "corpus"
    tokenizer = TokenizerParams(kind=kind, vocab_size=1000)
    dataset.prepare([songs], corpus=CorpusParams(), tokenizer=tokenizer, digest="", directory=folder)
    return folder


def windows(tokens: np.ndarray, count: int, length: int, seed: int) -> Tensor:
    starts = np.random.default_rng(seed).integers(0, len(tokens) - length, count)
    return torch.from_numpy(tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64))


@torch.inference_mode()
def mean_loss(model: nn.Module, texts: Tensor) -> float:
    model.eval()
    losses = [F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten()) for part in texts.split(64)]
    return float(torch.stack(losses).mean())


def bits_per_char(model: nn.Module, tokens: np.ndarray, context: int, chars_per_token: float) -> float:
    whole = len(tokens) // (context + 1) * (context + 1)
    texts = torch.from_numpy(np.array(tokens[:whole]).astype(np.int64)).view(-1, context + 1)
    return mean_loss(model, texts) / math.log(2) / chars_per_token


def lecture(folder: Path, seed: int) -> tuple[Run, float]:
    """The whole training, without its evaluations; and the seconds that those would have added."""
    from generation import Lecture

    torch.manual_seed(seed)
    train, validation = (np.array(dataset.load_tokens(folder, split)) for split in (TRAIN, VALIDATION))
    text = torch.from_numpy(train.astype(np.int64))
    model = Lecture(dataset.load_summary(folder).vocab_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def batch() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(text) - WINDOW, (BATCH,))
        return tuple(torch.stack([text[s + by : s + by + WINDOW] for s in starts]) for by in (0, 1))

    began = time.perf_counter()
    for _ in range(STEPS):
        given, wanted = batch()
        loss = F.cross_entropy(model(given).flatten(0, 1), wanted.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    with torch.no_grad():
        for _ in range(BATCHES_EACH):
            given, wanted = batch()
            F.cross_entropy(model(given).flatten(0, 1), wanted.flatten()).item()
    evaluations = EVALUATIONS * (time.perf_counter() - began)
    found = mean_loss(model, windows(validation, WINDOWS, WINDOW, 0))
    count = sum(weight.numel() for weight in model.parameters())
    return Run(found, bits_per_char(model, validation, WINDOW, 1.0), seconds, seconds, count), evaluations


def ours(songs: Path, kind: str, steps: int, context: int, seed: int, began: float) -> Run:
    """One training, in this process, which began at that time."""
    folder = prepared(songs, kind)
    summary = dataset.load_summary(folder)
    tokens, validation = (dataset.load_tokens(folder, split) for split in (TRAIN, VALIDATION))
    torch.manual_seed(seed)
    size = ModelParams(context=context)
    model = build(size, summary.vocab_size, folder)
    params = TrainingParams(
        steps=steps, batch_size=OUR_BATCH * WINDOW // context, seed=seed, device="cpu", checkpoint_every=steps
    )
    loop = Loop(model, size.name, context, params, folder.parent / "checkpoints", "benchmark")
    loop_began = time.time()
    loop.run(tokens, validation, summary.chars_per_token, lambda _: None)
    ended = time.time()
    return Run(
        mean_loss(model, windows(validation, WINDOWS, WINDOW, 0)),
        bits_per_char(model, validation, context, summary.chars_per_token),
        ended - loop_began,
        ended - began,
        sum(weight.numel() for weight in model.parameters()),
    )


def apart(songs: Path, kind: str, steps: int, context: int, seed: int) -> Run:
    """The same in a process of its own, whose start counts."""
    given = json.dumps([str(songs), kind, steps, context, seed, time.time()])
    said = subprocess.run([sys.executable, __file__, "--ours", given], capture_output=True, text=True, check=True)
    return Run(**json.loads(said.stdout))


def counted(folder: Path) -> float:
    tokens, validation = (np.array(dataset.load_tokens(folder, split)) for split in (TRAIN, VALIDATION))
    model = ngram.Ngram(tokens, dataset.load_summary(folder).vocab_size)
    return float(-model.log_probabilities(validation).mean())


def compare(songs: Path, seeds: int, longer: bool) -> None:
    folder = prepared(songs, "characters")
    baseline, evaluations = lecture(folder, 1)
    print(
        f"lecture   {baseline.parameters:,} parameters: {baseline.loss:.4f} nats in {baseline.loop:.0f} s, "
        f"{baseline.loop + evaluations:.0f} s with its evaluations"
    )
    runs = [apart(songs, "characters", OUR_STEPS, WINDOW, seed) for seed in range(1, seeds + 1)]
    for run in runs:
        print(
            f"ours      {run.parameters:,} parameters: {run.loss:.4f} nats in {run.loop:.1f} s of loop, "
            f"{run.whole:.1f} s of process"
        )
    if reached := statistics.median(run.loss for run in runs) <= baseline.loss:
        ratios = [baseline.loop / run.whole for run in runs]
        written = [(baseline.loop + evaluations) / run.whole for run in runs]
        for name, found, target in (("", ratios, TARGET), (" as written", written, TARGET_AS_WRITTEN)):
            spread = f"{min(found):.1f} to {max(found):.1f}"
            print(f"as good as the lecture{name} {statistics.median(found):.1f}x sooner ({spread}; target {target}x)")
    print("" if reached else "not as good as the lecture: give it more steps")
    print(f"n-gram    counted: {counted(folder):.4f} nats, each token after four")
    if longer:
        each = statistics.median(run.loop for run in runs) / OUR_STEPS
        for kind in ("characters", "bpe"):
            for part in (12, 4, 1):
                run = apart(songs, kind, int(baseline.loop / part / each), 64, 1)
                print(
                    f"ours      {kind}, 1/{part} of its time ({run.loop:.0f} s): {run.bits_per_char:.3f} bits per "
                    f"character{f' ({run.loss:.4f} nats)' if kind == 'characters' else ''}; lecture "
                    f"{baseline.bits_per_char:.3f}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path, nargs="?", help="songs (CSV, JSON lines, Parquet); else the sample's")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of ours (default 3)")
    parser.add_argument("--longer", action="store_true", help="also up to the lecture's own time")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.ours:
        songs, *rest = json.loads(given.ours)
        print(json.dumps(asdict(ours(Path(songs), *rest))))
        return
    with tempfile.TemporaryDirectory() as place:
        songs = given.songs or Path(place) / "songs.csv"
        if given.songs is None:
            sample.write(songs)
        compare(songs, given.seeds, given.longer)


if __name__ == "__main__":
    main()
