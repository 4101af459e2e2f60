"""`lyrics-lm report --base REV`: what was trained here beside what a revision gave, as Markdown with pictures."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm import bundle, durable, versioning
from lyrics_lm.bundle import Bundle
from lyrics_lm.errors import WorkspaceError
from lyrics_lm.params import Settings
from lyrics_lm.records import EvalReport, GateResult
from lyrics_lm.steps import pipeline, scores
from lyrics_lm.steps.train import flat_params, losses

if TYPE_CHECKING:
    from lyrics_lm.evaluation.gate import Interval

REPORT = "report.md"
_LOSSES, _SCORES = "losses.png", "scores.png"
_SHOWN = "temperature 0.8"


@dataclass(frozen=True)
class Made:
    """Where the report lies, and its first sentence."""

    path: Path
    verdict: str


@dataclass(frozen=True)
class _Side:
    """One of the two models compared. `losses` is None where its run kept none."""

    name: str
    params: dict[str, str]
    bundle: Bundle
    scores: EvalReport
    losses: str | None


def compare(settings: Settings, revision: str, folder: Path) -> Made:
    """Write `report.md` and its pictures to `folder`, whole or not at all.

    The revision's model comes from the registry; where it was never trained, this one stands alone.
    Raises `WorkspaceError` when what lies here was not trained, or there is no such revision.
    """
    from lyrics_lm.evaluation import gate

    ours = _ours(settings)
    dataset = settings.root / pipeline.DATASET
    bigram, ngram = scores.score_bigram(dataset), scores.score_ngram(dataset)
    with tempfile.TemporaryDirectory() as name:
        theirs = _base(settings, revision, Path(name))
        sides = [ours, theirs] if theirs else [ours]
        gates = (
            gate.quality(ours.scores, theirs.scores if theirs else None, bigram, ngram),
            gate.size(ours.bundle.size, settings.params.gates.size_mb),
        )
        verdict = _verdict(gates, revision, theirs)
        measured = {side.name: gate.spread(side.scores) for side in sides}
        counted = {"bigram": gate.spread(bigram), "n-gram": gate.spread(ngram)}
        with durable.directory(folder) as draft:
            _draw(draft, sides, {**measured, **counted})
            (draft / REPORT).write_text(_text(verdict, gates, sides), encoding="utf-8")
    return Made(folder / REPORT, verdict)


def _ours(settings: Settings) -> _Side:
    root = settings.root
    if not (root / pipeline.BUNDLE).is_dir():
        raise WorkspaceError(f"{root} holds no {pipeline.BUNDLE}: nothing was trained here; run: lyrics-lm train")
    made = bundle.read(root / pipeline.BUNDLE)
    snapshot = versioning.working(root)
    if made.manifest.provenance.get("inputs") != snapshot.inputs:
        raise WorkspaceError(f"{root} changed since {pipeline.BUNDLE} was trained; train it again: lyrics-lm train")
    name = f"{(snapshot.commit or 'this')[:7]}{' with edits' if snapshot.dirty else ''}"
    measured = scores.score(made, root / pipeline.DATASET)
    return _Side(name, flat_params(settings), made, measured, (root / pipeline.LOSSES).read_text())


def _base(settings: Settings, revision: str, folder: Path) -> _Side | None:
    """What the registry knows of the inputs that this revision holds."""
    from lyrics_lm.registry import runs, versions
    from lyrics_lm.registry.server import tracking

    snapshot = versioning.committed(settings.root, revision)
    with tracking(settings) as uri:
        run = runs.of_inputs(uri, snapshot.inputs)
        version = next((item for item in versions.every(uri) if run and item.run == run.id), None)
        if run is None or version is None:
            return None
        versions.fetch(uri, version.version, folder)
        kept = runs.read_text(uri, run.id, pipeline.LOSSES.name)
    made = bundle.read(versions.locate(folder, version.version))
    measured = scores.score(made, settings.root / pipeline.DATASET)
    return _Side(f"{revision} ({(snapshot.commit or '')[:7]})", run.params, made, measured, kept)


def _verdict(gates: tuple[GateResult, ...], revision: str, theirs: _Side | None) -> str:
    failed = [gate for gate in gates if not gate.passed]
    word = "Would not pass" if failed else "Would pass"
    against = f"against {theirs.name}" if theirs else f"alone ({revision} was never trained)"
    return f"{word} {against}: {(failed or list(gates))[0].reason}"


def _draw(folder: Path, sides: list[_Side], measured: "dict[str, Interval]") -> None:
    from lyrics_lm.steps import pictures

    pictures.losses({side.name: losses(side.losses) for side in sides if side.losses}, folder / _LOSSES)
    pictures.scores(measured, folder / _SCORES)


def _text(verdict: str, gates: tuple[GateResult, ...], sides: list[_Side]) -> str:
    names = [side.name for side in sides]
    scored = [
        ["bits per character", *(f"{side.scores.bits_per_char:.4f}" for side in sides)],
        ["perplexity per token", *(f"{side.scores.perplexity:.4f}" for side in sides)],
        ["bundle, MB", *(f"{side.bundle.size / 1e6:.2f}" for side in sides)],
        ["model", *(side.bundle.manifest.architecture for side in sides)],
        ["corpus", *(f"`{str(side.bundle.manifest.provenance.get('corpus'))[:12]}`" for side in sides)],
    ]
    judged = [[gate.gate, "ok" if gate.passed else "FAIL", gate.observed, gate.threshold] for gate in gates]
    parts = [
        "# " + " against ".join(names),
        f"**{verdict}**",
        _table(["", *names], scored),
        _table(["gate", "", "seen", "asked"], judged),
        f"![Scores]({_SCORES})",
        f"![Losses]({_LOSSES})",
        *_changed(sides),
        *(f"## Sample of {side.name}\n\n```text\n{_sample(side)}\n```" for side in sides),
    ]
    return "\n\n".join(parts) + "\n"


def _changed(sides: list[_Side]) -> list[str]:
    """A table of the settings in which both differ, when any do."""
    keys = sorted({key for side in sides for key in side.params})
    rows = [[key, *(f"`{side.params.get(key, '')}`" for side in sides)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return ["## Settings that differ\n\n" + _table(["setting", *(side.name for side in sides)], rows)] if rows else []


def _sample(side: _Side) -> str:
    return pipeline.samples(side.bundle)[_SHOWN].replace("```", "'''").rstrip()


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
