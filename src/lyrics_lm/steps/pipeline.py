"""The stages of `dvc.yaml`: prepare, train, evaluate, export. Each reads and writes files of the workspace."""

import dataclasses
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lyrics_lm import bundle, durable, versioning
from lyrics_lm.bundle import CARD, MODEL, TOKENIZER, WEIGHTS, Bundle
from lyrics_lm.params import Settings
from lyrics_lm.records import CopyingReport, EvalReport, Metrics, Progress, SlicesReport, from_json, to_json
from lyrics_lm.steps import scores
from lyrics_lm.steps.card import card as write_card
from lyrics_lm.steps.progress import Show, bar

DATASET = Path("build/dataset")
TRAINED = Path("build/model")
LOSSES = TRAINED / "losses.csv"
METRICS = Path("build/metrics.json")
EVALUATION = Path("build/evaluation")
COUNTED = {"bigram": "bigram, counted", "ngram": "n-gram, counted"}  # by their names in the metrics
REPORT, SLICES, COPYING = "report.json", "slices.json", "copying.json"
BUNDLE = Path("build/bundle")
LOCK = Path("build/train.lock")
DIFF = "uncommitted.diff"

NAME = "lyrics-lm"
_PROGRESS_SECONDS = 0.25
_KNOWN_TOKENS = 8
_LIBRARIES = ("numpy", "onnx", "onnxruntime", "tokenizers", "torch")


def prepare(settings: Settings) -> None:
    """Songs -> token ids, tokenizer and splits."""
    from lyrics_lm.corpus import dataset

    dataset.prepare(
        versioning.song_files(settings.root),
        corpus=settings.params.corpus,
        tokenizer=settings.params.tokenizer,
        digest=versioning.corpus_digest(settings.root),
        directory=settings.root / DATASET,
    )


def train(settings: Settings) -> None:
    """Token ids -> `model.onnx`, weights and losses. Continues from its checkpoint after a kill."""
    from lyrics_lm.corpus import dataset
    from lyrics_lm.training.train import train as run

    folder = settings.root / DATASET
    summary = dataset.load_summary(folder)
    inputs = versioning.working(settings.root).inputs
    progress = progress_path(settings.home)
    try:
        with bar() as show:
            run(
                dataset.load_tokens(folder, "train"),
                dataset.load_tokens(folder, "validation"),
                vocab_size=summary.vocab_size,
                chars_per_token=summary.chars_per_token,
                model=settings.params.model,
                training=settings.params.training,
                root=settings.root,
                checkpoint=settings.home / "checkpoints" / inputs[:16],
                key=inputs,
                output=settings.root / TRAINED,
                on_progress=_reporter(progress, show),
            )
    finally:
        progress.unlink(missing_ok=True)
    shutil.copyfile(folder / TOKENIZER, settings.root / TRAINED / TOKENIZER)


def evaluate(settings: Settings) -> None:
    """Score `model.onnx`, the thing that ships, and the counted bigram and n-gram on the test songs; and see
    what it copies of the training songs."""
    from lyrics_lm.corpus import dataset

    folder = settings.root / DATASET
    trained = scores.unpublished(settings.root / TRAINED, dataset.load_summary(folder).vocab_size)
    report, slices = scores.score_in_slices(trained, settings.home, folder)
    copying = scores.copying(trained, settings, folder)
    bigram, ngram = scores.score_bigram(folder), scores.score_ngram(folder)
    with durable.directory(settings.root / EVALUATION) as draft:
        for name, record in ((REPORT, report), (SLICES, slices), (COPYING, copying)):
            (draft / name).write_bytes(to_json(record) + b"\n")
    counted = {"bigram": _scores(bigram), "ngram": _scores(ngram)}
    copied = {"copied": round(copying.share, 6), "copied_by_test_songs": round(copying.test_share, 6)}
    metrics = {**_scores(report), **counted, **copied, "overlap": round(slices.overlap, 4)}
    metrics["test_songs"] = len(report.songs)
    if len(seeds := scores.trained(settings.root / TRAINED).seeds) > 1:
        metrics["validation_loss_of_seeds"] = {str(seed): round(loss, 4) for seed, loss in seeds.items()}
    durable.write(settings.root / METRICS, (json.dumps(metrics, indent=2) + "\n").encode())


def export(settings: Settings) -> None:
    """Everything made so far -> a bundle, with its known answer, provenance and model card."""
    from lyrics_lm.corpus import dataset
    from lyrics_lm.evaluation.conformance import known_answer
    from lyrics_lm.inference.engine import Engine

    folder = settings.root / DATASET
    trained = scores.unpublished(settings.root / TRAINED, dataset.load_summary(folder).vocab_size)
    found = settings.root / EVALUATION
    report = from_json((found / REPORT).read_bytes(), EvalReport)
    slices = from_json((found / SLICES).read_bytes(), SlicesReport)
    copying = from_json((found / COPYING).read_bytes(), CopyingReport)
    counted = json.loads((settings.root / METRICS).read_bytes())
    baselines = {name: counted[key]["bits_per_char"] for key, name in COUNTED.items()}
    tokens = [int(token) for token in dataset.load_tokens(folder, "validation")[:_KNOWN_TOKENS]]
    manifest = dataclasses.replace(
        trained.manifest,
        format=bundle.FORMAT,
        name=NAME,
        provenance=_provenance(settings),
        metrics=Metrics(report.bits_per_char, report.perplexity, report.split, scores.interval(report)),
        known_answer=known_answer(Engine(trained), tokens),
    )
    with tempfile.TemporaryDirectory() as name:
        card = Path(name) / CARD
        card.write_text(write_card(manifest, report, baselines, slices, copying, samples(trained)))
        sources = {file: trained.path / file for file in (MODEL, TOKENIZER, WEIGHTS)}
        present = {file: path for file, path in sources.items() if path.is_file()}
        bundle.write(settings.root / BUNDLE, {**present, CARD: card}, manifest)


def samples(made: Bundle) -> dict[str, str]:
    """Three texts from the start of a song, by the temperature each was drawn at."""
    from lyrics_lm.inference.generator import Generator
    from lyrics_lm.inference.stream import Sampling

    generator = Generator(made)
    texts = {}
    for temperature in (0.5, 0.8, 1.0):
        sampling = Sampling(max_tokens=300, temperature=temperature, seed=1)
        pieces = generator.generate(generator.vocabulary.encode(""), sampling)
        texts[f"temperature {temperature}"] = "".join(piece.text for piece in pieces)
    return texts


STAGES: dict[str, Callable[[Settings], None]] = {
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "export": export,
}


def progress_path(home: Path) -> Path:
    """Where a running training says how far it is; a killed one may leave it."""
    return home / "progress.json"


def _reporter(path: Path, show: Show) -> Callable[[Progress], None]:
    """Shows progress a few times a second, and writes it for whoever else shows it."""
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            show(progress)
            durable.write(path, to_json(dataclasses.replace(progress, pid=os.getpid())))

    return report


def _scores(report: EvalReport) -> dict[str, float]:
    low, high = scores.interval(report)
    return {
        "bits_per_char": round(report.bits_per_char, 4),
        "bits_per_char_low": low,
        "bits_per_char_high": high,
        "perplexity": round(report.perplexity, 4),
    }


def _provenance(settings: Settings) -> dict[str, Any]:
    snapshot = versioning.working(settings.root)
    return {
        "git_commit": snapshot.commit,
        "git_dirty": snapshot.dirty,
        "inputs": snapshot.inputs,
        "corpus": snapshot.corpus,
        "params": settings.params.model_dump(include={"corpus", "tokenizer", "model", "training"}),
        "seed": scores.trained(settings.root / TRAINED).seed or settings.params.training.seed,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
