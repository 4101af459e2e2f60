"""Git and DVC as a workspace uses them: what was committed, what a run is made of, and how to make it again."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lyrics_lm import durable
from lyrics_lm.errors import MachineError, WorkspaceError

SONGS = "data/songs"
POINTER = "data/songs.dvc"
# What a model is made of. A commit that moves none of these trains nothing.
_INPUTS = ("dvc.yaml", "models", "params.yaml", POINTER)
# What DVC says, and then ends well, when it could not store a file: the pointer it wrote leads nowhere.
UNSTORED = "ERROR: failed to transfer"
_QUIET = {"DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}


@dataclass(frozen=True)
class Snapshot:
    """The inputs of a training run: their digest, the commit under them, and what differs from it."""

    inputs: str
    commit: str | None
    dirty: bool
    diff: str
    corpus: str


@dataclass(frozen=True)
class Experiment:
    """An experiment of DVC: its name, and the commit that it and its siblings vary."""

    name: str
    baseline: str


def experiment() -> Experiment | None:
    """The one that `dvc exp run` runs this process for, if any."""
    name, baseline = os.environ.get("DVC_EXP_NAME"), os.environ.get("DVC_EXP_BASELINE_REV")
    return Experiment(name, baseline) if name and baseline else None


def committed(root: Path, revision: str = "HEAD") -> Snapshot:
    """The inputs as a revision holds them."""
    commit = _git(root, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    listing = _git(root, "ls-tree", "-r", "-z", commit, "--", *_INPUTS)
    blobs = {}
    for entry in filter(None, listing.split("\0")):
        meta, _, path = entry.partition("\t")
        blobs[path] = meta.split()[2]
    pointer = _git(root, "show", f"{commit}:./{POINTER}") if POINTER in blobs else ""
    return Snapshot(_digest(blobs), commit, dirty=False, diff="", corpus=_corpus(pointer))


def working(root: Path) -> Snapshot:
    """The inputs as they lie in the folder, committed or not."""
    head = _run(root, "git", "rev-parse", "--verify", "-q", "HEAD", check=False).strip() or None
    files = sorted(
        path
        for name in _INPUTS
        for path in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    )
    names = [path.relative_to(root).as_posix() for path in files]
    hashes = _git(root, "hash-object", "--", *names).split()
    pointer = (root / POINTER).read_text() if (root / POINTER).is_file() else ""
    diff = _uncommitted(root) if head else ""
    dirty = bool(_git(root, "status", "--porcelain", "--", *_INPUTS))
    return Snapshot(_digest(dict(zip(names, hashes, strict=True))), head, dirty, diff, _corpus(pointer))


def _uncommitted(root: Path) -> str:
    """What the inputs differ from HEAD, files that Git does not know yet included; the index stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        _run(root, "git", "read-tree", "HEAD", index=index)
        _run(root, "git", "add", "--all", "--", *(name for name in _INPUTS if (root / name).exists()), index=index)
        return _run(root, "git", "diff", "--cached", "--binary", "--relative", "HEAD", "--", ".", index=index)


def corpus_digest(root: Path) -> str:
    """The digest that DVC gave the song files; raises `WorkspaceError` when they are not tracked."""
    if not (root / POINTER).is_file():
        raise WorkspaceError(f"{root} tracks no songs ({POINTER} is missing); add some: lyrics-lm data add FILE")
    return _corpus((root / POINTER).read_text())


def song_files(root: Path) -> list[Path]:
    """The corpus, in order of arrival."""
    return songs_in(root / SONGS)


def songs_in(folder: Path) -> list[Path]:
    """The song files of a folder, in order of arrival."""
    return sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))


def require_songs(root: Path) -> str:
    """The digest of the tracked songs, "" where none are tracked yet.

    Raises `WorkspaceError` when some of them are not in the folder: tracking it now would drop them.
    """
    if not (root / POINTER).is_file():
        return ""
    pointer = (root / POINTER).read_text()
    tracked, here = _tracked(pointer).get("nfiles", 0), len(song_files(root))
    if here < tracked:
        raise WorkspaceError(
            f"{root / SONGS} holds {here} of the {tracked} files that {POINTER} names; "
            f"bring them back: dvc checkout, or dvc pull (if they are to go: dvc add {SONGS})"
        )
    return _corpus(pointer)


def initialise(root: Path) -> None:
    """Make `root` a Git and a DVC repository, tracking its songs, with everything committed."""
    _git(root, "init", "--quiet", "--initial-branch=main")
    _dvc(root, "init", *(() if (root / ".git").is_dir() else ("--subdir",)))
    for key, value in {"core.analytics": "false", "core.check_update": "false"}.items():
        _dvc(root, "config", key, value)
    track_songs(root)
    commit(root, "Workspace made by lyrics-lm init")


def track_songs(root: Path) -> None:
    """`dvc add` the song files: their digest moves."""
    _dvc(root, "add", SONGS)


def commit(root: Path, message: str) -> None:
    """Commit everything in the workspace; an author is made up only where none is configured."""
    _git(root, "add", "--all")
    known = _run(root, "git", "config", "user.email", check=False).strip()
    author = () if known else ("-c", "user.name=lyrics-lm", "-c", "user.email=lyrics-lm@localhost")
    _git(root, *author, "commit", "--quiet", "--message", message)


def commit_songs(root: Path, message: str) -> None:
    """Commit the songs' pointer alone, whatever else lies in the folder; nothing where it did not move."""
    if not _git(root, "status", "--porcelain", "--", POINTER):
        return
    known = _run(root, "git", "config", "user.email", check=False).strip()
    author = () if known else ("-c", "user.name=lyrics-lm", "-c", "user.email=lyrics-lm@localhost")
    _git(root, "add", "--", POINTER)
    _git(root, *author, "commit", "--quiet", "--message", message, "--", POINTER)


def checkout(root: Path, commit: str, folder: Path) -> Path:
    """Lay the workspace out in `folder` as `commit` has it, its songs included; returns its place there.

    The DVC cache is shared, so nothing is stored twice and earlier results are found again.
    """
    remove_checkout(root, folder)
    prefix = _git(root, "rev-parse", "--show-prefix").strip()
    _git(root, "worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)
    tree = folder / prefix
    (root / ".dvc" / "cache").mkdir(exist_ok=True)
    (tree / ".dvc" / "cache").symlink_to(root / ".dvc" / "cache")
    if (root / ".dvc" / "config.local").is_file():
        shutil.copy(root / ".dvc" / "config.local", tree / ".dvc" / "config.local")
    _bring_songs(tree)
    return tree


def _bring_songs(tree: Path) -> None:
    """From the cache; what is not there, from the remote, where there is one."""
    try:
        _dvc(tree, "checkout", POINTER)
    except WorkspaceError:
        if not _dvc(tree, "remote", "list").strip():
            raise
        _dvc(tree, "pull", POINTER)


def holds(root: Path, commit: str) -> bool:
    """Whether this commit is in the repository."""
    return bool(_run(root, "git", "rev-parse", "--verify", "-q", f"{commit}^{{commit}}", check=False).strip())


def apply(tree: Path, diff: str) -> None:
    """Make the edits of a diff that a run kept."""
    prefix = _git(tree, "rev-parse", "--show-prefix").strip()
    where = (f"--directory={prefix}",) if prefix else ()
    _run(tree, "git", "apply", "--whitespace=nowarn", *where, "-", input=diff)


def remove_checkout(root: Path, folder: Path) -> None:
    """Take a folder made by `checkout` away again."""
    shutil.rmtree(folder, ignore_errors=True)
    _git(root, "worktree", "prune")


def reproduce_command() -> list[str]:
    """`dvc repro`, of the DVC that runs with us."""
    return [sys.executable, "-m", "dvc", "repro"]


def reproduce_anew_command() -> list[str]:
    """`dvc repro` that takes nothing from an earlier run and keeps nothing for a later one."""
    return [*reproduce_command(), "--force", "--no-run-cache", "--no-commit"]


def take_results(root: Path, tree: Path) -> None:
    """Bring what was made in another checkout of the same inputs into `root`: its lock file and outputs."""
    (root / "dvc.lock").write_bytes((tree / "dvc.lock").read_bytes())
    _dvc(root, "checkout", "--force")


def environment() -> dict[str, str]:
    """The environment for DVC: quiet, and able to find the `lyrics-lm` that runs now."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **_QUIET, "PATH": path}


def _digest(blobs: Mapping[str, str]) -> str:
    listing = "\n".join(f"{blobs[path]} {path}" for path in sorted(blobs))
    return hashlib.sha256(listing.encode()).hexdigest()


def _corpus(pointer: str) -> str:
    return str(_tracked(pointer).get("md5", ""))


def _tracked(pointer: str) -> dict[str, Any]:
    """What DVC wrote of the songs; nothing of it where they are not tracked."""
    try:
        [tracked] = yaml.safe_load(pointer)["outs"] if pointer else [{}]
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise WorkspaceError(
            f"{POINTER} is not what DVC wrote; take one side of a merge (git checkout --theirs {POINTER}), then: "
            f"dvc checkout"
        ) from error
    return dict(tracked)


def _git(root: Path, *args: str) -> str:
    return _run(root, "git", *args)


def _dvc(root: Path, *args: str) -> str:
    return _run(root, sys.executable, "-m", "dvc", *args)


def _run(root: Path, *command: str, check: bool = True, input: str | None = None, index: Path | None = None) -> str:
    told = {**environment(), **({"GIT_INDEX_FILE": str(index)} if index else {})}
    try:
        done = subprocess.run(command, cwd=root, env=told, capture_output=True, text=True, check=False, input=input)
    except FileNotFoundError as error:
        raise MachineError(f"{command[0]} is not installed; install it and run again") from error
    said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["it said nothing"]
    if check and (done.returncode or UNSTORED in done.stderr):
        durable.require_room(root, done.stderr + done.stdout)
        name = " ".join(part for part in command if part not in (sys.executable, "-m"))
        raise WorkspaceError(f"`{name}` failed in {root}: {said[0].removeprefix('ERROR: ')}")
    return done.stdout
