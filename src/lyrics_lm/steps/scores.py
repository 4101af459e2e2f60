"""Scores on the frozen test songs: of any bundle, and of what was counted on the same training songs."""

import contextlib
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm import durable, versioning
from lyrics_lm.bundle import TOKENIZER, Bundle
from lyrics_lm.errors import CorpusError
from lyrics_lm.params import ModelParams, Settings, TrainingParams
from lyrics_lm.records import CopyingReport, EvalReport, KnownAnswer, Manifest, Metrics, SlicesReport, from_json

if TYPE_CHECKING:
    from lyrics_lm.corpus.verbatim import Verbatim
    from lyrics_lm.evaluation.scoring import Scored
    from lyrics_lm.training.ngram import FloatArray, Tokens
    from lyrics_lm.training.result import TrainedModel

SPLIT = "test"


def interval(report: EvalReport) -> tuple[float, float]:
    """The 95% interval of bits per character, by bootstrap over songs."""
    from lyrics_lm.evaluation.gate import spread

    found = spread(report)
    return round(found.low, 4), round(found.high, 4)


def told(bits_per_char: float, interval: tuple[float, float] | None) -> str:
    """A score in words, with its interval where there is one."""
    within = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{bits_per_char:.3f}{within} bits per character"


def current_dataset(settings: Settings) -> Path:
    """The prepared corpus of the workspace as it stands, made where it is not at hand."""
    from lyrics_lm.corpus import dataset

    corpus = versioning.corpus_digest(settings.root)
    made_with = f"{corpus} {settings.params.corpus} {settings.params.tokenizer}"
    folder = settings.home / "cache" / f"dataset-{hashlib.sha256(made_with.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        dataset.prepare(
            versioning.song_files(settings.root),
            corpus=settings.params.corpus,
            tokenizer=settings.params.tokenizer,
            digest=corpus,
            directory=folder,
        )
    return folder


@dataclass(frozen=True)
class TestSongs:
    """The frozen test songs of a prepared corpus; `split` names them by what they hold."""

    texts: list[str]
    artists: list[str]
    names: list[str]
    split: str


def test_songs(dataset_folder: Path) -> TestSongs:
    """The songs that nobody trains on."""
    from lyrics_lm.corpus import dataset

    songs = dataset.split_songs(dataset_folder, SPLIT)
    texts = songs["text"].to_list()
    names = [f"{artist} - {song}" for artist, song in zip(songs["artist"], songs["song"], strict=True)]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    return TestSongs(texts, songs["artist"].to_list(), names, f"{SPLIT}-{digest}")


def score(bundle: Bundle, dataset_folder: Path) -> EvalReport:
    """Losses of a bundle on the test songs of a prepared corpus."""
    return _scored(bundle, dataset_folder).report


def score_in_slices(bundle: Bundle, home: Path, dataset_folder: Path) -> tuple[EvalReport, SlicesReport]:
    """The same, and by artist, length and kind of line."""
    from lyrics_lm.evaluation.slices import slices

    scored = _scored(bundle, dataset_folder)
    index = _index(home, dataset_folder)
    songs = test_songs(dataset_folder)
    return scored.report, slices(scored, songs.texts, songs.artists, lambda line: index.line(line) is not None)


def _scored(bundle: Bundle, dataset_folder: Path) -> "Scored":
    from lyrics_lm.evaluation.scoring import score
    from lyrics_lm.inference.engine import Engine
    from lyrics_lm.inference.vocabulary import load_tokenizer

    songs = test_songs(dataset_folder)
    tokenizer = load_tokenizer(bundle)
    return score(Engine(bundle), tokenizer, songs.texts, songs.names, model=bundle.digest, split=songs.split)


def copying(bundle: Bundle, settings: Settings, dataset_folder: Path) -> CopyingReport:
    """How much a bundle copies of the training songs of a prepared corpus."""
    from lyrics_lm.corpus import dataset
    from lyrics_lm.evaluation import copying
    from lyrics_lm.inference.generator import Generator

    texts = dataset.split_songs(dataset_folder, "train")["text"].to_list()
    index = _index(settings.home, dataset_folder)
    window = settings.params.gates.copying
    return copying.measure(Generator(bundle), texts, test_songs(dataset_folder).texts, index, window=window)


def _index(home: Path, dataset_folder: Path) -> "Verbatim":
    """The index of the training songs, kept where the service finds it too."""
    from lyrics_lm.corpus import dataset, verbatim

    folder = home / verbatim.FOLDER
    songs = dataset.split_songs(dataset_folder, "train")
    digest = hashlib.sha256("\0".join(songs["text"]).encode()).hexdigest()
    if verbatim.made_of(folder) == digest:
        with contextlib.suppress(CorpusError):  # damaged: it is made anew
            return verbatim.load(folder)
    names = [f"{artist} - {song}" for artist, song in zip(songs["artist"], songs["song"], strict=True)]
    with durable.directory(folder) as draft:
        verbatim.build(songs["text"].to_list(), names).save(draft, digest)
    return verbatim.load(folder)


def score_texts(bundle: Bundle, texts: list[str], name: str) -> EvalReport:
    """Losses of a bundle on any texts, each as the beginning of a song."""
    from lyrics_lm.evaluation.scoring import score
    from lyrics_lm.inference.engine import Engine
    from lyrics_lm.inference.vocabulary import load_tokenizer

    names = [str(number) for number in range(len(texts))]
    return score(Engine(bundle), load_tokenizer(bundle), texts, names, model=bundle.digest, split=name).report


def score_ngram(dataset_folder: Path) -> EvalReport:
    """Losses of the n-gram counted on the training split of the same corpus."""
    import numpy as np

    from lyrics_lm.corpus import dataset
    from lyrics_lm.evaluation.scoring import report
    from lyrics_lm.training.ngram import Ngram

    ngram = Ngram(dataset.load_tokens(dataset_folder, "train"), dataset.load_summary(dataset_folder).vocab_size)

    def losses(opening: "Tokens", songs: "Sequence[Tokens]") -> "Sequence[FloatArray]":
        texts = [np.concatenate([opening, song]) for song in songs]
        return [-ngram.log_probabilities(text)[len(opening) - 1 :] for text in texts]

    songs, tokenizer = test_songs(dataset_folder), dataset.load_tokenizer(dataset_folder)
    model = f"{ngram.order}-gram"
    return report(losses, tokenizer, songs.texts, songs.names, model=model, split=songs.split).report


def score_bigram(dataset_folder: Path) -> EvalReport:
    """Losses of the bigram counted on the training split of the same corpus."""
    from lyrics_lm.corpus import dataset
    from lyrics_lm.training.train import train

    summary = dataset.load_summary(dataset_folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(
            dataset.load_tokens(dataset_folder, "train"),
            dataset.load_tokens(dataset_folder, "validation"),
            vocab_size=summary.vocab_size,
            chars_per_token=summary.chars_per_token,
            model=ModelParams(name="bigram"),
            training=TrainingParams(),
            root=folder,
            checkpoint=folder / "checkpoint",
            key="bigram",
            output=folder / "model",
            on_progress=lambda _: None,
        )
        (folder / "model" / TOKENIZER).write_bytes((dataset_folder / TOKENIZER).read_bytes())
        return score(unpublished(folder / "model", summary.vocab_size), dataset_folder)


def trained(folder: Path) -> "TrainedModel":
    """What a training left behind."""
    from lyrics_lm.training.result import RECORD, TrainedModel

    return from_json((folder / RECORD).read_bytes(), TrainedModel)


def unpublished(folder: Path, vocab_size: int) -> Bundle:
    """A trained model that has no contract yet, as far as an engine must know it."""
    model = trained(folder)
    manifest = Manifest(
        format=0,
        name="",
        architecture=model.architecture,
        vocab_size=vocab_size,
        context=model.context,
        state=model.state,
        provenance={},
        metrics=Metrics(0, 0, ""),
        known_answer=KnownAnswer((), ()),
        files={},
    )
    return Bundle(folder, manifest, digest="")
