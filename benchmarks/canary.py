"""Claim: a trial promotes a challenger that is no better in at most 2.5% of runs, however often it is looked at.

Two transformers of other seeds are trained for some seconds each, and score the first two lines of songs that neither
saw: what differs between them, prompt by prompt, is the noise that a trial meets. A run draws prompts with replacement
and gives each the noise of a real one, centred and of either sign; a challenger that is better by x% has x% fewer bits
on every prompt. Each run plays the wagers of the verdict (`evaluation/wager.py`), looked at after every prompt. The
`baseline` is a paired t-test at 2.5% that is looked at as often, from the tenth prompt on.

    python benchmarks/canary.py [--runs 1000] [--prompts 1000]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from lyrics_lm.corpus import dataset, sample
from lyrics_lm.evaluation.scoring import score
from lyrics_lm.evaluation.trial import LEVEL
from lyrics_lm.evaluation.wager import Wager, after
from lyrics_lm.inference.engine import Engine
from lyrics_lm.params import CorpusParams, ModelParams, TokenizerParams, TrainingParams
from lyrics_lm.steps.scores import unpublished
from lyrics_lm.training.train import train

STEPS = 250
SHARES = (0.0, -0.01, -0.03, -0.1, 0.01, 0.03, 0.1)  # fewer bits (better) are positive
FIRST_LOOK = 10


def bits_per_char(prepared: Path, place: Path, seed: int) -> np.ndarray:
    """Of a short training of that seed, on each prompt (prompts)."""
    summary = dataset.load_summary(prepared)
    train(
        dataset.load_tokens(prepared, "train"),
        dataset.load_tokens(prepared, "validation"),
        vocab_size=summary.vocab_size,
        chars_per_token=summary.chars_per_token,
        model=ModelParams(),
        training=TrainingParams(steps=STEPS, seed=seed),
        root=place,
        checkpoint=place / "checkpoint",
        key=str(seed),
        output=place / "model",
        on_progress=lambda _: None,
    )
    songs = [text for split in ("validation", "test") for text in dataset.split_songs(prepared, split)["text"]]
    prompts = ["\n".join(song.splitlines()[:2]) for song in songs]
    engine, names = Engine(unpublished(place / "model", summary.vocab_size)), [str(n) for n in range(len(prompts))]
    scored = score(engine, dataset.load_tokenizer(prepared), prompts, names, model="", split="").report
    return np.array(scored.bits) / np.array(scored.chars)


def proved(gains: np.ndarray) -> bool:
    return after(Wager(0.0, -1.0), np.clip(gains, -1, 1)).proves(LEVEL)


def peeked(gains: np.ndarray) -> bool:
    """Whether a t-test calls the mean positive at any look."""
    counts = np.arange(1, len(gains) + 1)
    means = gains.cumsum() / counts
    variances = np.maximum((gains**2).cumsum() / counts - means**2, 1e-12) * counts / np.maximum(1, counts - 1)
    t = means / np.sqrt(variances / counts)
    return bool((t[FIRST_LOOK:] > stats.t.ppf(1 - LEVEL, counts[FIRST_LOOK:] - 1)).any())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path, prepared = Path(name) / "songs.csv", Path(name) / "corpus"
        sample.write(path)
        dataset.prepare([path], corpus=CorpusParams(), tokenizer=TokenizerParams(), digest="", directory=prepared)
        one, other = (bits_per_char(prepared, Path(name), seed) for seed in (1, 2))
    noise = other - one
    noise -= noise.mean()
    print(f"noise of {len(noise)} prompts: {noise.std():.3f} bits per character, at {one.mean():.2f}")
    print(f"{asked.runs} runs of {asked.prompts} prompts: promoted, aborted, undecided; the t-test promotes")
    random = np.random.default_rng(0)
    for share in SHARES:
        counts = np.zeros(3)
        for _ in range(asked.runs):
            picks, others = random.integers(len(one), size=(2, asked.prompts))
            gains = one[picks] * share + noise[others] * random.choice([-1, 1], size=asked.prompts)
            counts += [proved(gains), proved(-gains), peeked(gains)]
        better, worse, baseline = counts / asked.runs
        kind = "equal" if share == 0 else f"{abs(share):.0%} {'better' if share > 0 else 'worse'}"
        print(f"{kind:>10}: {better:6.1%} {worse:6.1%} {1 - better - worse:6.1%}   {baseline:6.1%}", flush=True)


if __name__ == "__main__":
    main()
