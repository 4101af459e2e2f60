import errno
import os
import signal
import subprocess
import sys

import pytest

from lyrics_lm import durable
from lyrics_lm.errors import MachineError


@pytest.fixture
def full_disk(monkeypatch):
    """Every fsync meets a full disk, as a delayed allocation does."""

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)


def test_a_file_is_replaced(tmp_path):
    """The new content stands, folders are made on the way, and no draft is left."""
    path = tmp_path / "a" / "b.json"
    durable.write(path, b"old")
    durable.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["b.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path, full_disk):
    """It is said in one line that names the file and the remedy; nothing is left behind."""
    path = tmp_path / "rollout.json"
    path.write_bytes(b"old")
    with pytest.raises(MachineError, match=r"the disk is full: .*rollout\.json was not written; free some room"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_failure_is_not_called_a_full_disk(tmp_path, monkeypatch):
    """An input/output error stays what it is, and the old file still stands."""

    def fail(source, target):
        raise OSError(errno.EIO, "broken")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="broken"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    """Files of the old folder are gone, those of the new one are there, and no draft is left."""
    path = tmp_path / "bundle"
    for name in ("old", "new"):
        with durable.directory(path) as draft:
            (draft / name).write_text(name)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_block_leaves_the_old_folder(tmp_path):
    path = tmp_path / "bundle"
    with durable.directory(path) as draft:
        (draft / "old").touch()
    with pytest.raises(FileNotFoundError), durable.directory(path) as draft:
        (draft / "new").write_bytes((tmp_path / "nowhere").read_bytes())
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_folder(tmp_path, monkeypatch):
    path = tmp_path / "bundle"
    with durable.directory(path) as draft:
        (draft / "old").touch()
    with pytest.raises(MachineError, match="the disk is full"), durable.directory(path):
        raise OSError(errno.ENOSPC, "full")
    assert [file.name for file in path.iterdir()] == ["old"]


def test_a_failure_between_the_two_renames_brings_the_old_folder_back(tmp_path, monkeypatch):
    """The old folder has stepped aside, the new one cannot take its place: the old one returns."""
    path, replace = tmp_path / "bundle", os.replace
    with durable.directory(path) as draft:
        (draft / "old").touch()
    calls = []

    def fail_once(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(MachineError), durable.directory(path) as draft:
        (draft / "new").touch()
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    """kill -9 while the bytes are on their way: a reader still finds the old file, whole."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import os, pathlib, signal, sys\n"
        "from lyrics_lm import durable\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)\n"
        "durable.write(pathlib.Path(sys.argv[1]), b'new' * 100)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_a_private_file_is_its_owners(tmp_path):
    """Nobody else can read it, whatever was there before."""
    path = tmp_path / "secret"
    path.write_bytes(b"open to all")
    durable.write(path, b"token", private=True)
    assert path.stat().st_mode & 0o777 == 0o600
