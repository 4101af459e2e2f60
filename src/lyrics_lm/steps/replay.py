"""`lyrics-lm replay VERSION`: make a version again from what its run kept, and compare the two, part by part."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm import bundle, processes, versioning
from lyrics_lm.bundle import MODEL, TOKENIZER, WEIGHTS, Bundle
from lyrics_lm.errors import ModelError, RegistryError, WorkspaceError
from lyrics_lm.params import Settings
from lyrics_lm.steps import pipeline

if TYPE_CHECKING:
    from lyrics_lm.registry.versions import Version

_DIGITS = 12  # of a digest, shown


@dataclass(frozen=True)
class Replayed:
    """`difference` is the first thing that differs, None where all is identical; `surroundings` are
    the libraries that are not those of then, which may be why."""

    version: int
    digest: str
    rebuilt: str
    difference: str | None
    surroundings: tuple[str, ...]
    seconds: float


def replay(settings: Settings, number: int) -> Replayed:
    """Build a version anew, from its commit and diff, in a checkout of its own: nothing is taken from a cache
    but the songs, and the workspace is not touched.

    Raises `RegistryError` for a version that was not trained in a workspace, `WorkspaceError` when its
    commit or songs are not to be had, `ModelError` when its pipeline fails here.
    """
    from lyrics_lm.registry import versions
    from lyrics_lm.registry.server import tracking

    began = time.time()
    folder = settings.home / "trees" / "replay"
    with tempfile.TemporaryDirectory() as name:
        with tracking(settings) as uri:
            version = versions.get(uri, number)
            versions.fetch(uri, number, Path(name) / "then")
            then = bundle.read(versions.locate(Path(name) / "then", number))
            diff = _diff(uri, version, then)
        commit = then.manifest.provenance.get("git_commit")
        if not commit or not versioning.holds(settings.root, commit):
            raise WorkspaceError(_no_commit(settings, number, commit))
        try:
            tree = versioning.checkout(settings.root, commit, folder)
            if diff:
                versioning.apply(tree, diff)
            _require_inputs(number, versioning.working(tree).inputs, then)
            _reproduce(settings, tree, Path(name) / "home")
            now = bundle.read(tree / pipeline.BUNDLE)
            difference = next(_differences(then, now), None)
        finally:
            versioning.remove_checkout(settings.root, folder)
    surroundings = tuple(_surroundings(then, now))
    return Replayed(number, then.digest, now.digest, difference, surroundings, time.time() - began)


def describe(replayed: Replayed) -> str:
    """The outcome in a line or two."""
    if replayed.difference is None:
        lines = [f"identical: version {replayed.version}, made again in {replayed.seconds:.0f} s"]
    else:
        lines = [f"version {replayed.version} differs, first in {replayed.difference}"]
    return "\n".join([*lines, *(f"then and now: {item}" for item in replayed.surroundings)])


def _diff(uri: str, version: "Version", then: Bundle) -> str:
    """The uncommitted edits that its run kept."""
    from lyrics_lm.registry import runs

    if not then.manifest.provenance.get("git_dirty"):
        return ""
    kept = runs.read_text(uri, version.run, pipeline.DIFF) if version.run else None
    if kept is None:
        raise RegistryError(f"version {version.version} had uncommitted edits, and its run kept no {pipeline.DIFF}")
    return kept


def _no_commit(settings: Settings, number: int, commit: str | None) -> str:
    if not commit:
        return f"version {number} names no commit; only what a workspace trained can be replayed"
    return f"commit {commit[:_DIGITS]} of version {number} is not in {settings.root}; fetch it: git fetch --all"


def _require_inputs(number: int, inputs: str, then: Bundle) -> None:
    recorded = then.manifest.provenance.get("inputs")
    if inputs != recorded:
        raise WorkspaceError(
            f"commit and diff of version {number} give inputs {inputs[:_DIGITS]}, not {str(recorded)[:_DIGITS]}; "
            "compare them with the run's params: lyrics-lm why"
        )


def _reproduce(settings: Settings, tree: Path, home: Path) -> None:
    """All stages, in a home of their own, where no checkpoint lies."""
    log = settings.home / "logs" / "replay.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**versioning.environment(), "LYRICS_LM_HOME": str(home), **processes.mark(home, "training")}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            versioning.reproduce_anew_command(),
            cwd=tree,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            processes.stop(process.pid)
    if code:
        said = [
            line for line in log.read_text(errors="replace").splitlines() if line.startswith(("lyrics-lm: ", "ERROR"))
        ]
        raise ModelError(f"the pipeline failed in the replay: {said[0] if said else os.strerror(code)}; see {log}")


def _differences(then: Bundle, now: Bundle) -> Iterator[str]:
    """What differs, in the order in which one thing follows from another."""
    was, is_now = then.manifest, now.manifest
    for key in ("corpus", "params", "seed"):
        if was.provenance.get(key) != is_now.provenance.get(key):
            yield f"{key}: {was.provenance.get(key)} then, {is_now.provenance.get(key)} now"
    for file in (TOKENIZER, WEIGHTS, MODEL):
        if was.files.get(file) != is_now.files.get(file):
            yield f"{file}: {_short(was.files.get(file))} then, {_short(is_now.files.get(file))} now"
    if was.metrics != is_now.metrics:
        yield f"metrics: {was.metrics} then, {is_now.metrics} now"
    if was.known_answer != is_now.known_answer:
        yield "the known answer"


def _surroundings(then: Bundle, now: Bundle) -> Iterator[str]:
    was, is_now = then.manifest.provenance, now.manifest.provenance
    if was.get("python") != is_now["python"]:
        yield f"python {was.get('python')}, {is_now['python']}"
    before = was.get("libraries", {})
    yield from (
        f"{name} {before.get(name)}, {new}" for name, new in is_now["libraries"].items() if before.get(name) != new
    )


def _short(digest: str | None) -> str:
    return digest[:_DIGITS] if digest else "absent"
