"""The documented way to install with hashes, on a small project with our constraints."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "small"
version = "1"
dependencies = ["idna"]
"""


def commands():
    """The lines of the shell block under "Installing with hashes"."""
    section = (ROOT / "docs" / "security.md").read_text().partition("## Installing with hashes")[2]
    return re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()


def run(line, folder):
    """A documented line, `uv` being ours and `pip` that of the environment in `folder`."""
    line = line.replace("uv pip", f"{shlex.quote(sys.executable)} -m uv pip", 1)
    line = re.sub(r"^pip ", f"{shlex.quote(str(folder / 'venv/bin/python'))} -m pip ", line)
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project whose lock was made as documented, and an empty virtual environment beside it."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "small.py").write_text("")
    shutil.copy(ROOT / "constraints.txt", folder)
    locked = run(commands()[0], folder)
    if re.search(r"error sending request|dns error|[Nn]etwork", locked.stderr):
        pytest.skip(f"no package index is at hand: {locked.stderr.splitlines()[-1]}")
    assert locked.returncode == 0, locked.stderr
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    return folder


def test_a_lock_names_the_files_of_the_pinned_version(folder):
    """The version is that of constraints.txt; each line has its hashes."""
    [pin] = re.findall(r"^idna==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    lock = (folder / "requirements.lock").read_text()
    assert f"{pin} \\\n    --hash=sha256:" in lock
    assert lock.count("==") <= lock.count("--hash=sha256:")


def test_an_exchanged_file_is_not_installed(folder):
    """One digit of one hash, and nothing is installed."""
    lock = folder / "requirements.lock"
    good = lock.read_text()
    spoilt = re.sub(r"sha256:(.)", lambda found: f"sha256:{int(found[1], 16) ^ 1:x}", good)
    lock.write_text(spoilt)
    try:
        done = run(commands()[1], folder)
    finally:
        lock.write_text(good)
    assert done.returncode == 1
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    probe = [folder / "venv/bin/python", "-c", "import idna"]
    assert subprocess.run(probe, capture_output=True).returncode == 1


def test_the_lock_installs_the_project(folder):
    """All lines of the document, in turn; afterwards the project and what it needs are there."""
    for line in commands()[1:]:
        done = run(line, folder)
        assert done.returncode == 0, done.stderr
    subprocess.run([folder / "venv/bin/python", "-c", "import idna, small"], check=True)
