"""`lyrics-lm init`: a workspace, in Git and DVC from its first minute, with songs in it."""

import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from lyrics_lm import versioning
from lyrics_lm.errors import WorkspaceError
from lyrics_lm.params import CorpusParams
from lyrics_lm.steps.data_add import Added, add_files

_SAMPLE = "sample.csv"


def init(directory: Path, corpus: Sequence[Path] = ()) -> Added:
    """Make a workspace at `directory`; without song files, with the generated sample.

    Raises `WorkspaceError` when something is there already, `CorpusError` when the songs cannot be
    used; either way nothing is left behind.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise WorkspaceError(f"{directory} exists and is not empty; choose another name, or remove it")
    existed = directory.exists()
    try:
        return _make(directory, corpus)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        if existed:
            directory.mkdir()
        raise


def _make(directory: Path, corpus: Sequence[Path]) -> Added:
    template = resources.files("lyrics_lm.workspace") / "template"
    with resources.as_file(template) as source:
        shutil.copytree(source, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "gitignore").rename(directory / ".gitignore")
    songs = directory / versioning.SONGS
    songs.mkdir(parents=True)
    added = add_files(songs, list(corpus) or [_sample(directory)], CorpusParams())
    (directory / _SAMPLE).unlink(missing_ok=True)
    versioning.initialise(directory)
    return added


def _sample(directory: Path) -> Path:
    from lyrics_lm.corpus import sample

    path = directory / _SAMPLE
    sample.write(path)
    return path
