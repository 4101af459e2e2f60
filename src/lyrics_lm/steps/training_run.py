"""A training in five steps for an orchestrator, each a process of its own: what the controller does in one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import time

from lyrics_lm import params, versioning
from lyrics_lm.errors import DeliveryError
from lyrics_lm.params import Settings
from lyrics_lm.steps import due, inbox, ledger, pipeline, retrain, train
from lyrics_lm.steps.due import Due

PREPARE, REGISTER = "retrain_prepare", "retrain_register"
STAGES = {f"retrain_{stage}": stage for stage in pipeline.STAGES}
STEPS = (*STAGES, REGISTER)

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingRun:
    """A training on its way. `tree` is the checkout in which it happens, `inputs` what the commit is made of;
    `assignments` are settings that differ from it; `seconds` and `cpu_seconds` are what its stages took so far.
    `nothing` says why there is nothing to train."""

    tree: str = ""
    inputs: str = ""
    cause: str = ""
    assignments: tuple[str, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    version: int | None = None
    nothing: str = ""


def step(settings: Settings, uri: str, name: str, run: TrainingRun, say: Say) -> TrainingRun:
    """One of `STEPS`. Killed anywhere, it may be run again: a training goes on from its checkpoint."""
    if name == PREPARE:
        run = _begin(settings, uri, say)
    if run.nothing:
        return run
    tree = Path(run.tree)
    if not run.tree or not tree.is_dir():
        raise DeliveryError(f"{name} finds no checkout {run.tree}; run this training again from {PREPARE}")
    there = replace(
        params.load(tree),
        home=settings.home,
        tracking_uri=settings.tracking_uri,
        login=settings.login,
        signing=settings.signing,
    )
    if name in STAGES:
        seconds, cpu = train.reproduce(there, uri, STAGES[name])
        return replace(run, seconds=run.seconds + seconds, cpu_seconds=run.cpu_seconds + cpu)
    done = replace(run, version=train.train(there, spent=(run.seconds, run.cpu_seconds)).version)
    if not run.assignments and versioning.working(settings.root).inputs == run.inputs:
        versioning.take_results(settings.root, tree)
    versioning.remove_checkout(settings.root, _folder(settings))
    return done


def _begin(settings: Settings, uri: str, say: Say) -> TrainingRun:
    """New songs are taken in; what is due by then is laid out in a checkout."""
    inbox.take(settings, say)
    alarm = retrain.alarm(settings, say)
    snapshot = versioning.committed(settings.root)
    found = due.find(uri, snapshot, bigram_tried=False)
    if isinstance(found, Due) and found.assignments:
        tree = _lay_out(settings, found)
        from lyrics_lm.registry import runs

        if runs.of_inputs(uri, versioning.working(tree).inputs) is None:
            return TrainingRun(str(tree), snapshot.inputs, "nothing is live yet", found.assignments)
        found = due.find(uri, snapshot, bigram_tried=True)
    if not isinstance(found, Due):
        return TrainingRun(nothing=f"commit {(snapshot.commit or '')[:7]} was trained: {found.reason or found.status}")
    decided = retrain.decision(settings, uri, alarm, due=True)
    if decided.action != "train":
        return TrainingRun(nothing=decided.cause)
    ledger.trained(settings.home, ledger.Retraining(time(), snapshot.inputs, decided.cause))
    say(f"training {found.name}, because of {decided.cause}")
    return TrainingRun(str(_lay_out(settings, found)), snapshot.inputs, decided.cause)


def _lay_out(settings: Settings, found: Due) -> Path:
    tree = versioning.checkout(settings.root, found.snapshot.commit or "HEAD", _folder(settings))
    if found.assignments:
        params.override(tree, list(found.assignments))
    return tree


def _folder(settings: Settings) -> Path:
    return settings.home / "trees" / "training"
