"""`lyrics-lm train`: reproduce the pipeline, follow its losses into MLflow, register the bundle it made."""

import contextlib
import csv
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from filelock import FileLock, Timeout

from lyrics_lm import bundle, durable, params, processes, versioning
from lyrics_lm.errors import LyricsError, MachineError, ModelError, RegistryError
from lyrics_lm.params import Settings
from lyrics_lm.records import Progress, from_json
from lyrics_lm.steps import ledger, pipeline, scores, signatures

_POLL_SECONDS = 0.1
_LOG_SECONDS = 1.0


@dataclass(frozen=True)
class Trained:
    """What a training came to. `known` means that nothing had changed: the version is an earlier one. `seeds`
    holds the last validation loss of each seed (nats per token) where there were several."""

    version: int
    digest: str
    bits_per_char: float
    interval: tuple[float, float] | None
    known: bool
    seconds: float
    seeds: dict[int, float]


def train(
    settings: Settings,
    assignments: Sequence[str] = (),
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    spent: tuple[float, float] = (0.0, 0.0),
) -> Trained:
    """Train what the workspace holds, uncommitted edits included, and register the result.

    `assignments` are written to `params.yaml` first; `spent` are seconds, and seconds of processors, that earlier
    steps of the same training took. Raises `ModelError` with the stage's own words
    when the pipeline fails; the failed run stays in MLflow with that reason.
    """
    from lyrics_lm.registry.server import tracking

    with _alone(settings):
        if assignments:
            params.override(settings.root, assignments)
            settings = params.load(settings.root)
        signatures.require_signer(settings)
        began, cpu = time.time() - spent[0], _children_cpu_seconds() - spent[1]
        snapshot = versioning.working(settings.root)
        pipe = _Pipeline(settings)
        try:
            with tracking(settings) as uri:
                return _follow(uri, settings, snapshot, pipe, on_progress, began, cpu)
        finally:
            pipe.stop()


def reproduce(settings: Settings, uri: str, stage: str) -> tuple[float, float]:
    """The pipeline up to one stage, for an orchestrator that runs stage by stage and `train` at the end; returns
    seconds, and seconds of processors, that it took.

    Raises as `train` does. What failed by the model's fault is on record, and fails at once when tried again.
    """
    from lyrics_lm.registry import runs

    snapshot = versioning.working(settings.root)
    began, cpu = time.monotonic(), _children_cpu_seconds()
    with _alone(settings):
        before = runs.of_inputs(uri, snapshot.inputs)
        if before and before.reason:
            raise ModelError(before.reason)
        pipe = _Pipeline(settings, stage)
        try:
            while pipe.running():
                time.sleep(_POLL_SECONDS)
            if failure := pipe.failure():
                if isinstance(failure, ModelError):
                    _put_on_record(uri, None, settings, snapshot, failure)
                raise failure
        finally:
            pipe.stop()
    return time.monotonic() - began, _children_cpu_seconds() - cpu


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One training at a time in a folder. What a killed one left running there is stopped."""
    path = settings.root / pipeline.LOCK
    path.parent.mkdir(exist_ok=True)
    try:
        held = FileLock(path).acquire(timeout=0)
    except Timeout as error:
        raise MachineError(f"another training runs in {settings.root}; wait for it, or stop it first") from error
    with held:
        processes.stop_leftovers(settings.home, "training", folder=settings.root)
        yield


def _follow(
    uri: str,
    settings: Settings,
    snapshot: versioning.Snapshot,
    pipe: "_Pipeline",
    on_progress: Callable[[Progress], None],
    began: float,
    cpu: float,
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
    if failure := pipe.failure():
        if isinstance(failure, ModelError):  # a full disk passes: these inputs stay due
            _put_on_record(uri, run, settings, snapshot, failure)
        raise failure
    made = bundle.read(settings.root / pipeline.BUNDLE)
    known = versions.registered(uri, made.digest)
    if known is None or runs.of_inputs(uri, snapshot.inputs) is None:
        run = run or _start_run(uri, settings, snapshot)
        runs.log_losses(uri, run, losses((settings.root / pipeline.LOSSES).read_text()))
        with signatures.signed(settings, made) as signed:
            number = versions.register(uri, signed, run)
        times = {"seconds": time.time() - began, "cpu_seconds": _children_cpu_seconds() - cpu}
        _finish_run(uri, settings, run, made, times)
    else:
        number = known.version
    seeds = scores.trained(settings.root / pipeline.TRAINED).seeds
    found, seconds = made.manifest.metrics, time.time() - began
    several = seeds if len(seeds) > 1 else {}
    return Trained(number, made.digest, found.bits_per_char, found.interval, known is not None, seconds, several)


def describe(trained: Trained) -> str:
    """What came of it, in words."""
    done = "nothing changed: this is" if trained.known else f"trained in {trained.seconds:.0f} s and registered as"
    said = f"{done} version {trained.version}, {scores.told(trained.bits_per_char, trained.interval)}"
    if not trained.seeds:
        return said
    low, high = min(trained.seeds.values()), max(trained.seeds.values())
    return f"{said}\nthe median of {len(trained.seeds)} seeds, which came to {low:.4f} to {high:.4f} nats per token"


class _Pipeline:
    """`dvc repro` in a process of its own, up to a stage where one is named; what it says goes to a log."""

    def __init__(self, settings: Settings, *stage: str) -> None:
        self._home = settings.home
        self._log = settings.home / "logs" / "train.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        home = {"LYRICS_LM_HOME": str(settings.home), **processes.mark(settings.home, "training")}
        with open(self._log, "wb") as output:
            self._process = subprocess.Popen(
                [*versioning.reproduce_command(), *stage],
                cwd=settings.root,
                env={**versioning.environment(), **home},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def running(self) -> bool:
        return self._process.poll() is None

    def failure(self) -> LyricsError | None:
        """Why it failed, in the words of the stage that did: the model's fault, or the machine's."""
        log = self._log.read_text(errors="replace")
        if not self._process.returncode:
            if versioning.UNSTORED in log:
                durable.require_room(self._home, log)
                return MachineError(f"DVC could not store what was trained; see {self._log}, then train again")
            return None
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        own = [line.removeprefix("lyrics-lm: ") for line in lines if line.startswith("lyrics-lm: ")]
        if own:
            return MachineError(own[0]) if own[0].startswith(durable.FULL) else ModelError(own[0])
        durable.require_room(self._home, log)
        reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1] if lines else "no output")
        return ModelError(f"the training pipeline failed: {reason.removeprefix('ERROR: ')}; see {self._log}")

    def stop(self) -> None:
        if self.running():
            processes.stop(self._process.pid)
            self._process.wait()
        pipeline.progress_path(self._home).unlink(missing_ok=True)


def read_progress(home: Path) -> Progress | None:
    """How far the running training is; None while none runs."""
    try:
        progress = from_json(pipeline.progress_path(home).read_bytes(), Progress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return progress if psutil.pid_exists(progress.pid) else None


def _put_on_record(
    uri: str, run: str | None, settings: Settings, snapshot: versioning.Snapshot, failure: ModelError
) -> None:
    """Close the run as failed. Where MLflow does not take it, the failure is still the thing to tell."""
    from lyrics_lm.registry import runs

    try:
        runs.fail(uri, run or _start_run(uri, settings, snapshot), str(failure))
    except RegistryError as error:
        raise failure from error


def _start_run(uri: str, settings: Settings, snapshot: versioning.Snapshot) -> str:
    from lyrics_lm.registry import runs

    tags = {
        "mlflow.source.git.commit": snapshot.commit or "",
        "lyrics_lm.dirty": str(snapshot.dirty).lower(),
        "lyrics_lm.corpus": snapshot.corpus,
        "lyrics_lm.cause": ledger.cause(settings.home, snapshot.inputs) or "a person asked",
    }
    run = runs.start(uri, settings.params.model.name, snapshot.inputs, flat_params(settings), tags)
    if snapshot.diff:
        runs.log_text(uri, run, pipeline.DIFF, snapshot.diff)
    return run


def _finish_run(uri: str, settings: Settings, run: str, made: bundle.Bundle, times: dict[str, float]) -> None:
    from lyrics_lm.registry import runs

    root = settings.root
    scores = made.manifest.metrics
    texts = pipeline.samples(made).items()
    runs.log_text(uri, run, "samples.txt", "\n\n".join(f"# {name}\n{text}" for name, text in texts) + "\n")
    runs.finish(
        uri,
        run,
        {"test_bits_per_char": scores.bits_per_char, "test_perplexity": scores.perplexity, **times},
        [root / pipeline.METRICS, root / pipeline.LOSSES, *(root / pipeline.EVALUATION).iterdir()],
    )


def _children_cpu_seconds() -> float:
    """Of all processes that this one started and that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def flat_params(settings: Settings) -> dict[str, str]:
    """The settings that make a model, as `section.key`."""
    facts = settings.params.model_dump(include={"corpus", "tokenizer", "model", "training"})
    return {f"{section}.{key}": str(value) for section, values in facts.items() for key, value in values.items()}


def losses(text: str) -> list[tuple[int, dict[str, float]]]:
    """Rows of `losses.csv`: (step, {name: nats per token})."""
    return [
        (int(row["step"]), {name: float(value) for name, value in row.items() if name != "step" and value})
        for row in csv.DictReader(text.splitlines())
    ]
