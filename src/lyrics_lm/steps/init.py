"""`lyrics-lm init`: a workspace, in Git and DVC from its first minute, with songs in it."""

import contextlib
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from lyrics_lm import params, versioning
from lyrics_lm.errors import WorkspaceError
from lyrics_lm.params import CorpusParams
from lyrics_lm.steps import presets
from lyrics_lm.steps.data_add import Added, add_files

_SAMPLE = "sample.csv"
_DRAFT = ".init.tmp"  # what a killed init leaves, and the next one clears away


def init(directory: Path, corpus: Sequence[Path] = (), *, preset: str = "sample") -> Added:
    """Make a workspace at `directory` with the settings of a preset; without song files, with the generated sample.

    Raises `WorkspaceError` when something is there already, `CorpusError` when the songs cannot be
    used or are too few to train on; either way nothing is left behind.
    """
    if directory.exists() and not _is_free(directory):
        raise WorkspaceError(f"{directory} exists and is not empty; choose another name, or remove it")
    place = directory.resolve()
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    try:
        return _make(place, corpus, preset)
    except BaseException:
        _clear(place)
        with contextlib.suppress(OSError):  # not made, or in use by now
            for folder in made:
                folder.rmdir()
        raise


def _make(directory: Path, corpus: Sequence[Path], preset: str) -> Added:
    """Build in a draft inside `directory`, then move everything up: last the file that makes a workspace."""
    draft = directory / _DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    added = _fill(draft, corpus, preset)
    for path in sorted(draft.iterdir(), key=lambda path: path.name == params.FILE):
        path.rename(directory / path.name)
    draft.rmdir()
    return added


def _fill(directory: Path, corpus: Sequence[Path], preset: str) -> Added:
    from lyrics_lm.corpus.dataset import require_enough

    template = resources.files("lyrics_lm.workspace") / "template"
    with resources.as_file(template) as source:
        shutil.copytree(source, directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "gitignore").rename(directory / ".gitignore")
    params.override(directory, list(presets.assignments(preset)))
    songs = directory / versioning.SONGS
    songs.mkdir(parents=True)
    added = add_files(songs, list(corpus) or [_sample(directory)], CorpusParams())
    require_enough(added.songs)
    (directory / _SAMPLE).unlink(missing_ok=True)
    versioning.initialise(directory)
    return added


def _is_free(directory: Path) -> bool:
    return directory.is_dir() and all(path.name == _DRAFT for path in directory.iterdir())


def _clear(directory: Path) -> None:
    """Empty a folder that was empty when we came."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sample(directory: Path) -> Path:
    from lyrics_lm.corpus import sample

    path = directory / _SAMPLE
    sample.write(path)
    return path
