import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lyrics_lm import bundle
from lyrics_lm.evaluation import conformance

SCRIPT = Path(__file__).parents[2] / "examples" / "bring_your_own_model" / "train_and_export.py"
WORDS = ["love", "night", "rain", "you", "me", "heart", "away", "never"]


def run(*arguments):
    """The example as a person runs it, in a process that has never heard of lyrics_lm."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle of the example, trained for five steps on forty generated songs."""
    folder = tmp_path_factory.mktemp("byo")
    random = np.random.default_rng(0)
    with open(folder / "songs.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["artist", "song", "link", "text"])
        for number in range(40):
            lines = [" ".join(random.choice(WORDS, 5)).capitalize() for _ in range(8)]
            writer.writerow(["Nobody", f"Song {number}", "", "\r\n".join(lines)])
    done = run(folder / "songs.csv", folder / "bundle", "--steps", 5)
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


def test_someone_elses_model_conforms(exported):
    """A stateful GRU, exported by code that does not import this project, passes every rule."""
    checked = conformance.check(exported)
    assert checked.failure is None
    assert checked.passed


def test_its_contract_is_written_by_hand(exported):
    """It holds each field that the contract names, and the scores of its own held-out songs."""
    manifest = bundle.read(exported).manifest
    assert (manifest.name, manifest.architecture) == ("char-gru", "gru")
    assert manifest.state[0].shape == (1, 128)
    assert 0 < manifest.metrics.bits_per_char < 8
    assert json.loads((exported / "contract.json").read_bytes())["provenance"]["git_commit"] is None


def test_the_example_imports_nothing_of_ours():
    """It is what a stranger would write: the contract alone connects the two."""
    code = SCRIPT.read_text()
    assert "import lyrics_lm" not in code
    assert "from lyrics_lm" not in code


def test_a_file_without_songs_is_said_to_be_one(tmp_path):
    (tmp_path / "songs.csv").write_text("a,b\n1,2\n")
    done = run(tmp_path / "songs.csv", tmp_path / "out")
    assert done.returncode == 1
    assert "has columns ['a', 'b']; name the one that holds the songs 'text'" in done.stderr
