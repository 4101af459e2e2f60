"""`lyrics-lm data add`: song files are checked, copied into the corpus and tracked by DVC."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lyrics_lm import durable, versioning
from lyrics_lm.errors import CorpusError
from lyrics_lm.params import CorpusParams, Settings


@dataclass(frozen=True)
class Added:
    """What was taken in: files by their new names, songs in them, rows set aside; `known` songs were in
    the corpus before. The rest compares the new songs with the corpus as it was (see `corpus.novelty`)."""

    files: tuple[str, ...]
    songs: int
    rejects: int
    first_reject: str | None
    corpus: str = ""
    known: int = 0
    near_duplicates: int = 0
    unknown: str = ""
    distance: float = 0.0


def data_add(settings: Settings, files: Sequence[Path]) -> Added:
    """Add song files to the corpus; its digest moves. Raises `CorpusError` and adds nothing when one
    of them cannot be used, or all songs are there already. Commit the moved pointer to have it trained."""
    root = settings.root
    before = versioning.require_songs(root)
    with _taken_back(root):
        added = add_files(root / versioning.SONGS, files, settings.params.corpus)
        versioning.track_songs(root)
    digest = versioning.corpus_digest(root)
    if digest == before:  # else an earlier call copied the files, and was killed before it tracked them
        names = ", ".join(str(file) for file in files)
        raise CorpusError(f"nothing was added: the corpus has every song of {names} already; give a file with others")
    return replace(added, corpus=digest)


def add_files(folder: Path, files: Sequence[Path], params: CorpusParams) -> Added:
    """Check all files, then copy those with a song that is new into `folder`, numbered in order of arrival."""
    from lyrics_lm.corpus.novelty import novelty
    from lyrics_lm.corpus.songs import read_songs

    read = [read_songs([file], params) for file in files]
    present = versioning.songs_in(folder)
    anything = CorpusParams(max_rejects=sys.maxsize)  # it was judged when it came in
    corpus = read_songs(present, anything).songs["text"].to_list() if present else []
    texts, new = set(corpus), []
    next_number = 1 + max((int(path.name[:4]) for path in present if path.name[:4].isdigit()), default=0)
    names: list[str] = []
    songs = known = 0
    for file, one in zip(files, read, strict=True):
        fresh = [text for text in one.songs["text"] if text not in texts]
        texts.update(fresh)
        new.extend(fresh)
        songs, known = songs + len(fresh), known + len(one.songs) - len(fresh)
        if fresh:
            names.append(f"{next_number + len(names):04d}-{file.name}")
            durable.write(folder / names[-1], file.read_bytes())
    rejects = [reject for one in read for reject in one.rejects]
    first = f"{rejects[0].file}:{rejects[0].line}: {rejects[0].reason}" if rejects else None
    added = Added(tuple(names), songs, len(rejects), first, known=known)
    if not corpus or not new:
        return added
    seen = novelty(corpus, new, params.near_duplicate)
    return replace(added, near_duplicates=seen.near_duplicates, unknown=seen.unknown, distance=seen.distance)


@contextmanager
def _taken_back(root: Path) -> Iterator[None]:
    """Song files and their pointer are again what they were if the block fails."""
    before, pointer = set(versioning.song_files(root)), root / versioning.POINTER
    content = pointer.read_bytes() if pointer.is_file() else None
    try:
        yield
    except BaseException:
        for path in set(versioning.song_files(root)) - before:
            path.unlink()
        if content is not None:
            durable.write(pointer, content)
        raise
