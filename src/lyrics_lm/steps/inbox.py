"""`data/inbox/`: song files laid there are taken into the corpus and committed, with no hand on it."""

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lyrics_lm import durable, versioning
from lyrics_lm.errors import CorpusError
from lyrics_lm.params import Settings
from lyrics_lm.steps import ledger
from lyrics_lm.steps.data_add import Added, data_add

INBOX = "data/inbox"
TAKEN, REFUSED = "taken", "refused"
_UNFINISHED = (".tmp", ".part", ".crdownload", ".swp")

Say = Callable[[str], None]


def take(settings: Settings, say: Say) -> None:
    """Take in all files that are whole; those that cannot be used are set aside with the reason beside them.

    Killed anywhere, the next call ends what this one began: a file moves out of the inbox last.
    """
    _refuse_links(settings.root / INBOX, say)
    for file in _whole(settings.root / INBOX, settings.params.drift.debounce):
        try:
            added = data_add(settings, [file])
        except CorpusError as error:
            if not _left_by_a_kill(settings.root, file):
                _set_aside(file, str(error))
                say(f"{INBOX}/{file.name} was refused: {error}")
                continue
            added = None
        versioning.commit_songs(settings.root, f"New songs: {file.name}")
        _note(settings)
        _move(file, TAKEN)
        say(f"{INBOX}/{file.name}: {_told(added)}")


def _refuse_links(inbox: Path, say: Say) -> None:
    """Whoever may lay files here may not have those read that a link leads to."""
    for link in [path for path in inbox.glob("*") if path.is_symlink()]:
        _set_aside(link, "it is a link; lay the file itself here")
        say(f"{INBOX}/{link.name} was refused: it is a link; lay the file itself there")


def _whole(inbox: Path, still: float) -> list[Path]:
    """Files that nobody writes to, and that nobody touched for so many seconds, oldest first."""
    if not inbox.is_dir():
        return []
    files = [path for path in inbox.iterdir() if path.is_file() and not path.name.startswith(".")]
    ripe = [path for path in files if path.suffix not in _UNFINISHED and _age(path) >= still and not _is_written(path)]
    return sorted(ripe, key=lambda path: (path.stat().st_mtime, path.name))


def _age(path: Path) -> float:
    status = path.stat()
    return time.time() - max(status.st_mtime, status.st_ctime)  # a copy may carry an old mtime


def _is_written(path: Path) -> bool:
    """Whether some process holds the file open for writing. Where the system does not tell (only Linux leases a
    file, and only to its owner), lying still has to do."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _left_by_a_kill(root: Path, file: Path) -> bool:
    """Whether the corpus has this very file, and an earlier call was killed before it moved it away."""
    content = file.read_bytes()
    return any(
        path.name.endswith(f"-{file.name}") and path.read_bytes() == content for path in versioning.song_files(root)
    )


def _note(settings: Settings) -> None:
    """These inputs are the loop's doing, not a person's."""
    inputs = versioning.committed(settings.root).inputs
    known = ledger.read(settings.home)
    if inputs not in known.by_itself:
        ledger.write(settings.home, replace(known, by_itself=(*known.by_itself, inputs)))


def _set_aside(file: Path, reason: str) -> None:
    durable.write(file.parent / REFUSED / f"{file.name}.why.txt", f"{reason}\n".encode())
    _move(file, REFUSED)


def _move(file: Path, folder: str) -> None:
    (file.parent / folder).mkdir(exist_ok=True)
    os.replace(file, file.parent / folder / file.name)


def _told(added: Added | None) -> str:
    if added is None:
        return "taken in"
    return f"{added.songs} new songs, {added.known} known already, words {added.distance:.2f} away from the corpus's"
