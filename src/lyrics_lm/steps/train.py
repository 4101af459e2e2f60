"""`lyrics-lm train`: reproduce the pipeline, follow its losses into MLflow, register the bundle it made."""

import contextlib
import csv
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lyrics_lm import bundle, params, processes, versioning
from lyrics_lm.errors import ModelError, RegistryError
from lyrics_lm.params import Settings
from lyrics_lm.records import Progress, from_json
from lyrics_lm.steps import pipeline

_POLL_SECONDS = 0.1
_LOG_SECONDS = 1.0


@dataclass(frozen=True)
class Trained:
    """What a training came to. `known` means that nothing had changed: the version is an earlier one."""

    version: int
    digest: str
    bits_per_char: float
    known: bool
    seconds: float


def train(
    settings: Settings, assignments: Sequence[str] = (), *, on_progress: Callable[[Progress], None] = lambda _: None
) -> Trained:
    """Train what the workspace holds, uncommitted edits included, and register the result.

    `assignments` are written to `params.yaml` first. Raises `ModelError` with the stage's own words
    when the pipeline fails; the failed run stays in MLflow with that reason.
    """
    from lyrics_lm.registry.server import tracking

    if assignments:
        params.override(settings.root, assignments)
        settings = params.load(settings.root)
    began = time.time()
    snapshot = versioning.working(settings.root)
    pipe = _Pipeline(settings)
    try:
        with tracking(settings) as uri:
            return _follow(uri, settings, snapshot, pipe, on_progress, began)
    finally:
        pipe.stop()


def _follow(
    uri: str,
    settings: Settings,
    snapshot: versioning.Snapshot,
    pipe: "_Pipeline",
    on_progress: Callable[[Progress], None],
    began: float,
) -> Trained:
    from lyrics_lm.registry import runs, versions

    run: str | None = None
    logged = time.monotonic()
    while pipe.running():
        progress = read_progress(settings.home)
        if progress:
            on_progress(progress)
            run = run or _start_run(uri, settings, snapshot)
            if time.monotonic() - logged >= _LOG_SECONDS:
                logged = time.monotonic()
                with contextlib.suppress(RegistryError):  # all losses are logged again at the end
                    runs.log_losses(uri, run, [(progress.step, {"train": progress.loss})])
        time.sleep(_POLL_SECONDS)
    failure = pipe.failure()
    if failure:
        runs.fail(uri, run or _start_run(uri, settings, snapshot), failure)
        raise ModelError(failure)
    made = bundle.read(settings.root / pipeline.BUNDLE)
    known = versions.find(uri, made.digest)
    if known is None or runs.of_inputs(uri, snapshot.inputs) is None:
        run = run or _start_run(uri, settings, snapshot)
        runs.log_losses(uri, run, _losses(settings.root / pipeline.LOSSES))
        number = versions.register(uri, made, run)
        _finish_run(uri, settings, run, made)
    else:
        number = known.version
    return Trained(number, made.digest, made.manifest.metrics.bits_per_char, known is not None, time.time() - began)


class _Pipeline:
    """`dvc repro` in a process of its own; what it says goes to a log."""

    def __init__(self, settings: Settings) -> None:
        self._log = settings.home / "logs" / "train.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        home = {"LYRICS_LM_HOME": str(settings.home), **processes.mark(settings.home, "training")}
        with open(self._log, "wb") as output:
            self._process = subprocess.Popen(
                versioning.reproduce_command(),
                cwd=settings.root,
                env={**versioning.environment(), **home},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def running(self) -> bool:
        return self._process.poll() is None

    def failure(self) -> str | None:
        """Why it failed, in the words of the stage that did."""
        if not self._process.returncode:
            return None
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        own = [line for line in lines if line.startswith("lyrics-lm: ")]
        if own:
            return own[0].removeprefix("lyrics-lm: ")
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1] if lines else "no output")
        return f"the training pipeline failed: {reason.removeprefix('ERROR: ')}; see {self._log}"

    def stop(self) -> None:
        if self.running():
            processes.stop(self._process.pid)
            self._process.wait()


def read_progress(home: Path) -> Progress | None:
    """How far the running training is; None while none runs."""
    try:
        return from_json(pipeline.progress_path(home).read_bytes(), Progress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _start_run(uri: str, settings: Settings, snapshot: versioning.Snapshot) -> str:
    from lyrics_lm.registry import runs

    facts = settings.params.model_dump(include={"corpus", "tokenizer", "model", "training"})
    flat = {f"{section}.{key}": value for section, values in facts.items() for key, value in values.items()}
    tags = {
        "mlflow.source.git.commit": snapshot.commit or "",
        "lyrics_lm.dirty": str(snapshot.dirty).lower(),
        "lyrics_lm.corpus": snapshot.corpus,
    }
    run = runs.start(uri, settings.params.model.name, snapshot.inputs, flat, tags)
    if snapshot.diff:
        runs.log_text(uri, run, "uncommitted.diff", snapshot.diff)
    return run


def _finish_run(uri: str, settings: Settings, run: str, made: bundle.Bundle) -> None:
    from lyrics_lm.registry import runs

    root = settings.root
    scores = made.manifest.metrics
    runs.log_text(uri, run, "samples.txt", _samples(made))
    runs.finish(
        uri,
        run,
        {"test_bits_per_char": scores.bits_per_char, "test_perplexity": scores.perplexity},
        [root / pipeline.METRICS, root / pipeline.LOSSES],
    )


def _samples(made: bundle.Bundle) -> str:
    """Three texts from the start of a song, at three temperatures."""
    from lyrics_lm.inference.generator import Generator, Sampling

    generator = Generator(made)
    texts = []
    for temperature in (0.5, 0.8, 1.0):
        pieces = generator.generate(generator.encode(""), Sampling(max_tokens=300, temperature=temperature, seed=1))
        texts.append(f"# temperature {temperature}\n" + "".join(piece.text for piece in pieces))
    return "\n\n".join(texts) + "\n"


def _losses(path: Path) -> list[tuple[int, dict[str, float]]]:
    with open(path, newline="") as file:
        return [
            (int(row["step"]), {name: float(value) for name, value in row.items() if name != "step" and value})
            for row in csv.DictReader(file)
        ]
