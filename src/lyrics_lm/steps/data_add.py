"""`lyrics-lm data add`: song files are checked, copied into the corpus and tracked by DVC."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lyrics_lm import durable, versioning
from lyrics_lm.params import CorpusParams, Settings


@dataclass(frozen=True)
class Added:
    """What was taken in: files by their new names, songs in them, rows set aside."""

    files: tuple[str, ...]
    songs: int
    rejects: int
    first_reject: str | None
    corpus: str = ""


def data_add(settings: Settings, files: Sequence[Path]) -> Added:
    """Add song files to the corpus; its digest moves. Raises `CorpusError` and adds nothing when one
    of them cannot be used. Commit the moved pointer to have it trained."""
    added = add_files(settings.root / versioning.SONGS, files, settings.params.corpus)
    versioning.track_songs(settings.root)
    digest = versioning.corpus_digest(settings.root)
    return Added(added.files, added.songs, added.rejects, added.first_reject, digest)


def add_files(folder: Path, files: Sequence[Path], params: CorpusParams) -> Added:
    """Check all files, then copy them into `folder`, numbered in order of arrival."""
    from lyrics_lm.corpus.songs import read_songs

    read = [read_songs([file], params) for file in files]
    rejects = [reject for one in read for reject in one.rejects]
    present = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
    next_number = 1 + max((int(name[:4]) for name in present if name[:4].isdigit()), default=0)
    names = []
    for number, file in enumerate(files, start=next_number):
        names.append(f"{number:04d}-{file.name}")
        durable.write(folder / names[-1], file.read_bytes())
    first = f"{rejects[0].file}:{rejects[0].line}: {rejects[0].reason}" if rejects else None
    return Added(tuple(names), sum(len(one.songs) for one in read), len(rejects), first)
