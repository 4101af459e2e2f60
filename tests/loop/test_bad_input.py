"""What a person can get wrong, or a machine, at the command line: told in one line, and nothing is lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bundles import bigram_bundle
from lyrics_lm import bundle, params, processes, versioning
from lyrics_lm.corpus import sample
from lyrics_lm.registry import runs, server
from lyrics_lm.steps.train import read_progress
from workspaces import LYRICS_LM, cli, dvc, git, make_workspace, run, set_params, wait_for

LONG = {"training.steps": 200, "training.checkpoint_every": 10}
OWN = """
import torch
from torch import nn

class Fails(nn.Module):
    def __init__(self, vocab_size, context):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)
    def forward(self, tokens):
        raise RuntimeError("no idea\\nat all")

class FailsLater(Fails):
    def forward(self, tokens):
        if len(tokens) > 2:
            raise RuntimeError("no idea\\nat all")
        return self.table(tokens)

class Branches(Fails):
    def forward(self, tokens):
        logits = self.table(tokens)
        return logits if logits.sum() > 0 else 2 * logits

class Tied(nn.Module):
    def __init__(self, vocab_size, context, width):
        super().__init__()
        self.table, self.head = nn.Embedding(vocab_size, width), nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.table.weight
    def forward(self, tokens):
        return self.head(self.table(tokens)) / self.head.in_features
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A prepared workspace, to be copied, and song files beside it."""
    folder = tmp_path_factory.mktemp("shelf")
    root = make_workspace(folder / "mine", songs=150, **LONG)
    (root / "models" / "own.py").write_text(OWN)
    (root / "models" / "broken.py").write_text("class Broken(:\n")
    run([*versioning.reproduce_command(), "prepare"], cwd=root, env=versioning.environment())
    git(root, "add", "--all")
    git(root, "commit", "-qm", "networks of all kinds")
    sample.write(folder / "more.csv", songs=30, seed=5)
    (folder / "columns.csv").write_text("a,b\n1,2\n")
    (folder / "empty.csv").write_bytes(b"")
    (folder / "rubbish.csv").write_bytes(bytes(range(256)) * 20)
    (folder / "small.csv").write_text("artist,song,text\nAnn,One,la la la\n")
    (folder / "malformed.csv").write_text("artist,song,text\n" + "Ann,One\n" * 150 + "Ann,Two,la la\n")
    (folder / "folder.csv").mkdir()
    return folder


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """An MLflow server for all workspaces here, so that no command has to start one."""
    home = tmp_path_factory.mktemp("mlflow")
    with server.tracking(params.Settings(home, home, None, params.Params())) as address:
        yield address


@pytest.fixture
def root(shelf, tmp_path):
    """A workspace of the test's own."""
    return copied(shelf / "mine", tmp_path)


def copied(root, folder):
    return Path(shutil.copytree(root, folder / "mine", symlinks=True))


def contents(folder):
    """Every file that a person would miss, with what is in it; what is built can be built again."""
    passing = {".git", ".lyrics-lm", "build", "tmp", "cache"}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not passing & set(path.relative_to(folder).parts)
    }


def refused(root, *args, says=(), uri=None, **kwargs):
    """Run a command that must be refused: exit code 1, one line, no word of success, nothing changed."""
    before = contents(root) if root.is_dir() else None
    environment = {**os.environ, **({"MLFLOW_TRACKING_URI": uri} if uri else {})}
    done = cli(root, *map(str, args), check=False, env=environment, **kwargs)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("lyrics-lm: ")
    for words in says:
        assert words in line
    assert before is None or contents(root) == before
    return line


def misused(root, *args, says):
    """Run a command that is none: exit code 2, and the reason without a traceback."""
    done = cli(root, *args, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


# init


def test_the_status_of_a_workspace_where_nothing_happened(root, uri):
    """It is no fault to look, even first of all: nothing is live, nothing waits."""
    done = cli(root, "status", env={**os.environ, "MLFLOW_TRACKING_URI": uri})
    assert done.stdout.splitlines() == ["local: nothing is live yet", "waiting: nothing"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["gone.csv"], ["gone.csv is not a file; check the name"]),
        (["columns.csv"], ["has no text column; columns found: a, b; name one of them text"]),
        (["empty.csv"], ["has no text column; columns found: none, it is empty"]),
        (["rubbish.csv"], ["is a binary file", "save it as text in UTF-8"]),
        (["small.csv"], ["the corpus has 1 song, too few to split; at least 20 are needed"]),
        (["folder.csv"], ["folder.csv is not a file"]),
        (["malformed.csv"], ["150 rows cannot be used", "malformed.csv:2 has 2 columns", "mend the file"]),
        (["more.csv", "columns.csv"], ["columns.csv has no text column"]),
    ],
    ids=lambda value: value[0].replace(" ", "_")[:20],
)
def test_init_refuses_songs_of_no_use(shelf, tmp_path, files, says):
    """The file at fault is named, and neither the workspace nor the folders above it are left behind."""
    corpus = [shelf / file for file in files]
    refused(tmp_path, "init", tmp_path / "deep" / "mine", "--corpus", *corpus, says=says)
    assert list(tmp_path.iterdir()) == []


def test_init_takes_several_song_files_and_each_song_once(shelf, tmp_path):
    """All files of the line are added; the same one again adds nothing, and that is said."""
    more = shelf / "more.csv"
    done = cli(tmp_path, "init", "mine", "--corpus", str(more), str(shelf / "mine.csv"), str(more))
    assert "180 songs, 30 known already" in done.stdout
    assert [file.name for file in versioning.song_files(tmp_path / "mine")] == ["0001-more.csv", "0002-mine.csv"]


def test_init_goes_into_an_empty_folder_only(shelf, tmp_path):
    """A folder with anything in it is left alone, an empty one is filled, and kept when that fails."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused(tmp_path, "init", "full", says=["full exists and is not empty; choose another name"])
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "init", "empty", "--corpus", shelf / "small.csv")
    refused(tmp_path / "empty", "init", ".", "--corpus", shelf / "small.csv")


def test_init_below_a_file_is_refused(shelf, tmp_path):
    """Where a folder of the path is a file, or the workspace itself would be one, that is said."""
    (tmp_path / "file").write_text("a file")
    refused(tmp_path, "init", "file", says=["file exists"])
    refused(tmp_path, "init", "file/mine", "--corpus", shelf / "more.csv", says=["file/mine", "choose another place"])


def test_a_killed_init_can_be_run_again(shelf, tmp_path):
    """Kill -9 in the middle leaves a draft, no workspace; the same command then makes it."""
    command = [*LYRICS_LM, "-C", str(tmp_path), "init", "mine", "--corpus", str(shelf / "more.csv")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: any((tmp_path / "mine").glob("*/.git")), every=0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    refused(tmp_path / "mine", "status", says=["no params.yaml in"])
    run(command)
    assert git(tmp_path / "mine", "status", "--porcelain") == ""
    assert not list((tmp_path / "mine").glob("*.tmp"))


# params.yaml and --set


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("training: [1\nmodel: {", ["params.yaml:2 is not valid YAML", "mend that line"]),
        ("only words", ["is not a mapping of sections"]),
        ("training:\n  seed: 1\ntraining:\n  steps: 5\n", ["params.yaml:3", "training is given twice"]),
        ("trainin:\n  steps: 5\n", ["trainin is not a setting; did you mean training? known: corpus"]),
        ("training:\n  stps: 5\n", ["training.stps is not a setting; did you mean steps? known: steps"]),
        ("training:\n  steps: 0\n", ["training.steps is 0; it should be greater than or equal to 1"]),
        ("training:\n  steps: many\n", ["training.steps is 'many'; it should be a valid integer"]),
        ("training:\n  learning_rate: .inf\n", ["learning_rate is inf; it should be a finite number"]),
        ("training: 5\n", ["training is 5; write its settings below it"]),
        ("model:\n  name: lstm\n", ["model.name is 'lstm'; write bigram, transformer, or models/FILE.py:CLASS"]),
        ("model:\n  name: models/../../x.py:X\n", ["model.name", "write bigram, transformer, or models/FILE.py:CLASS"]),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, says):
    """File, key, value and what would be right; whatever the verb."""
    (tmp_path / "params.yaml").write_text(text)
    refused(tmp_path, "undo", says=["params.yaml", *says])


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("training.steps", ["is not of the form section.key=value, as in: --set training.steps=200"]),
        ("steps=5", ["--set steps=5 is not of the form section.key=value"]),
        ("training.stps=5", ["--set training.stps=5: training.stps is not a setting; did you mean steps?"]),
        ("training.steps=0", ["--set training.steps=0: training.steps is 0; it should be"]),
        ("training.steps=[", ["is not a YAML value"]),
        ("training.steps.x=5", ["steps is 200, which has no parts"]),
    ],
)
def test_a_wrong_set_is_named_and_not_written(root, assignment, says):
    """The assignment at fault is told, and params.yaml is as it was, whatever else was set."""
    refused(root, "train", "--set", "training.seed=7", "--set", assignment, says=says)


def test_outside_a_workspace_the_way_in_is_told(tmp_path):
    """No params.yaml here or above: how to make a workspace. A verb that is none is a usage error."""
    for verb in (["status"], ["train"], ["data", "add", "x.csv"], ["generate", "love"]):
        refused(tmp_path, *verb, says=["no params.yaml in", "make a workspace with: lyrics-lm init"])
    misused(tmp_path, "trian", says="No such command 'trian'")
    misused(tmp_path, "generate", "--max-tokens", "0", says="0 is not in the range")


# data add


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["gone.csv"], ["gone.csv is not a file"]),
        (["more.csv", "malformed.csv"], ["150 rows cannot be used", "the first: malformed.csv:2 has 2 columns"]),
        (["mine.csv"], ["nothing was added: the corpus has every song of", "give a file with others"]),
    ],
    ids=["missing", "malformed", "known"],
)
def test_data_add_refuses_and_leaves_the_corpus(shelf, root, files, says):
    """Not one of the files is added, and the pointer has not moved."""
    refused(root, "data", "add", *(shelf / file for file in files), says=says)
    assert git(root, "status", "--porcelain") == ""


def test_data_add_says_what_is_new(shelf, root, tmp_path):
    """Files are found from -C on, as with git; songs that were there are counted, and a few bad rows too."""
    known = (shelf / "mine.csv").read_text()
    (tmp_path / "mixed.csv").write_text(known + 'Ann,New,/n,"something new"\nAnn,Bad\n')
    done = cli(root, "data", "add", "../mixed.csv")
    assert "added 1 songs, 150 known already, 1 rows set aside (first: mixed.csv:" in done.stdout
    refused(root, "data", "add", "../mixed.csv", says=["nothing was added"])


def test_a_killed_data_add_can_be_run_again(shelf, root):
    """Killed after the copy and before DVC knew of it: the same command tracks it, once."""
    (root / "data" / "songs" / "0002-more.csv").write_bytes((shelf / "more.csv").read_bytes())
    assert "30 known already" in cli(root, "data", "add", str(shelf / "more.csv")).stdout
    assert [file.name for file in versioning.song_files(root)] == ["0001-mine.csv", "0002-more.csv"]
    assert "M data/songs.dvc" in git(root, "status", "--porcelain")


def test_songs_that_are_not_here_are_not_forgotten(shelf, root):
    """In a clone without its songs, adding some would drop the others from the corpus: told instead."""
    (root / "data" / "songs" / "0001-mine.csv").unlink()
    refused(root, "data", "add", shelf / "more.csv", says=["holds 0 of the 1 files", "dvc checkout, or dvc pull"])
    (root / "data" / "songs.dvc").write_text("<<<<<<< HEAD\nouts:\n=======\n>>>>>>> theirs\n")
    refused(root, "data", "add", shelf / "more.csv", says=["songs.dvc is not what DVC wrote"])


# train


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("models/gone.py:Gone", ["models/gone.py does not exist; model.name in params.yaml names it"]),
        ("models/own.py:Gone", ["own.py has no torch module Gone; it has: Fails, FailsLater, Branches, Tied"]),
        ("models/broken.py:Broken", ["broken.py cannot be imported: SyntaxError: invalid syntax (broken.py, line 1)"]),
        ("models/own.py:Fails", ["own.py:10: RuntimeError: no idea at all; mend it"]),
        ("models/own.py:FailsLater", ["failed in training: own.py:15: RuntimeError: no idea at all; mend it"]),
        ("models/own.py:Branches", ["cannot be exported to ONNX: own.py:21: ", "tensor operations only"]),
    ],
    ids=lambda value: value.split("/")[1] if isinstance(value, str) else "",
)
def test_a_network_of_ones_own_that_fails_is_named_by_line(root, name, says):
    """Wherever it fails, at import, when made, in training or at export: file, line and message."""
    set_params(root, {"model.name": name, "training.steps": 1})
    refused(root, "step", "train", says=says)


@pytest.fixture(scope="module")
def trained(shelf, tmp_path_factory, uri):
    """A workspace whose training was refused, then mended and trained; and the digest that came of it."""
    root = copied(shelf / "mine", tmp_path_factory.mktemp("trained"))
    set_params(root, {"model.heads": 5})
    refused(root, "step", "train", says=["width 48 is not a multiple of twice the 5 heads; change model.width or"])
    git(root, "checkout", "-q", "params.yaml")
    cli(root, "train", env={**os.environ, "MLFLOW_TRACKING_URI": uri})
    return root, bundle.read(root / "build" / "bundle").digest


class Training:
    """`lyrics-lm train`, to be killed on its way."""

    def __init__(self, root, uri):
        self._progress = root / ".lyrics-lm" / "progress.json"
        self._said = root.parent / "said"
        self._before = self._read().get("pid")
        with open(self._said, "wb") as said:
            self._process = subprocess.Popen(
                [*LYRICS_LM, "-C", str(root), "train"],
                stdout=said,
                stderr=said,
                env={**os.environ, "MLFLOW_TRACKING_URI": uri},
            )
        self.first = self.wait(0)

    def wait(self, step):
        """The first step seen beyond `step`, of this training and none before it."""

        def seen():
            assert self._process.poll() is None, self._said.read_text()
            now = self._read()
            return now["step"] if now.get("step", 0) > step and now["pid"] != self._before else None

        return wait_for(seen, seconds=60, every=0.003)

    def _read(self):
        try:
            return json.loads(self._progress.read_bytes())
        except FileNotFoundError:
            return {}

    @contextmanager
    def frozen(self):
        """It and all that it started stand still while the block lasts, however long that is."""
        whole = [self._process, *self._under()]
        for process in whole:
            process.send_signal(signal.SIGSTOP)
        yield
        for process in reversed(whole):
            process.send_signal(signal.SIGCONT)

    def _under(self):
        return psutil.Process(self._process.pid).children(recursive=True)

    def kill(self, *, children):
        """Kill -9 of it, alone or with all that it started."""
        under = self._under() if children else []
        for process in [self._process, *under]:
            process.kill()
        self._process.wait()
        psutil.wait_procs(under, timeout=10)


def test_a_killed_training_goes_on_where_it_was(shelf, trained, uri, tmp_path):
    """Kill -9 of the command, then of the whole tree: each time the next run goes on from the last
    checkpoint, and the end is, byte for byte, the bundle of a training that nobody disturbed."""
    root, environment = copied(shelf / "mine", tmp_path), {**os.environ, "MLFLOW_TRACKING_URI": uri}
    home = root / ".lyrics-lm"
    training = Training(root, uri)
    training.wait(15)
    training.kill(children=False)
    assert processes.leftovers(home, "training"), "the pipeline was to outlive the command"
    training = Training(root, uri)
    assert training.first > 10
    with training.frozen():
        refused(root, "train", uri=uri, says=["another training runs in", "wait for it, or stop it"])
    training.wait(60)
    training.kill(children=True)
    assert read_progress(home) is None
    [checkpoint] = (home / "checkpoints").rglob("checkpoint.json")
    assert json.loads(checkpoint.read_text())["step"] >= 60
    cli(root, "train", env=environment)
    assert bundle.read(root / "build" / "bundle").digest == trained[1]
    assert runs.of_inputs(uri, versioning.working(root).inputs).status == "FINISHED"


# register


def _flip(folder):
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def _newer(folder):
    manifest = json.loads((folder / "contract.json").read_text())
    del manifest["metrics"]
    (folder / "contract.json").write_text(json.dumps({**manifest, "format": 2, "scores": []}))


def _empty(folder):
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_empty, ["is not a bundle, for it has no contract.json; give the folder that holds one"]),
        (_flip, ["model.onnx is not the file its contract lists (SHA-256 differs); copy or export the bundle again"]),
        (lambda folder: (folder / "tokenizer.json").unlink(), ["has no tokenizer.json", "copy the whole folder again"]),
        (_newer, ["contract.json has format 2, and this lyrics-lm reads format 1; upgrade lyrics-lm"]),
        (shutil.rmtree, ["is not a directory; give the folder that holds contract.json"]),
    ],
    ids=["no-bundle", "flipped-byte", "missing-file", "newer-format", "no-folder"],
)
def test_a_spoilt_bundle_is_not_registered(shelf, root, tmp_path, spoil, says):
    """The file at fault is named before MLflow is asked anything."""
    made = bigram_bundle(tmp_path / "bundle")
    spoil(made.path)
    refused(root, "register", made.path, says=says)
    assert not (root / ".lyrics-lm" / "mlflow").exists()


# Before anything is live


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        (["generate", "love"], ["no version is live yet; start the loop with: lyrics-lm up"]),
        (["undo"], ["nothing is live at local, so there is nothing to undo"]),
        (["undo", "--target", "moon"], ["moon is not a target; there is: local"]),
        (["why"], ["no version is live yet"]),
        (["why", "99"], ["there is no version 99 of lyrics-lm", "see: lyrics-lm status"]),
        (["why", "cmpl-0123"], ["'cmpl-0123' is neither a version, a digest nor a recorded request"]),
        (["why", ""], ["'' is neither a version, a digest nor a recorded request"]),
        (["step", "moon"], ["moon is not a step; there is: prepare, train"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) and value[0].isalpha() else "",
)
def test_what_is_not_there_is_said_not_to_be(trained, uri, verb, says):
    """With versions registered and nothing live, each verb says what lacks and where to look."""
    refused(trained[0], *verb, uri=uri, says=says)


# up


def test_a_port_in_use_is_named_with_one_that_is_free(root):
    """Nothing is started; `up` and `doctor` name a port where it would work."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refused(root, "up", "--port", port, says=[f"port {port} is in use; take another: lyrics-lm up --port "])
        assert processes.port_fault(int(line.split()[-1])) == ""
        done = cli(root, "doctor", "--port", str(port), check=False)
        assert done.returncode == 1
        assert f"port: {port} is in use; lyrics-lm up --port" in done.stdout
    misused(root, "up", "--port", "70000", says="70000 is not in the range 1<=x<=65535")


def test_a_port_for_administrators_is_not_called_busy(root):
    """Below 1024, without the right to listen there: that is the reason given."""
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not limit.is_file() or int(limit.read_text()) <= 81:
        pytest.skip("every account may listen on port 81 here")
    if os.getuid() and not processes.port_fault(81).startswith("is for"):
        pytest.skip("this account may listen on port 81")
    if not os.getuid() and not shutil.which("setpriv"):
        pytest.skip("root cannot give up the right without setpriv")
    without = ["setpriv", "--bounding-set=-net_bind_service"] if not os.getuid() else []
    done = run([*without, *LYRICS_LM, "-C", str(root), "up", "--port", "81"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "port 81 is for administrators only; take another: lyrics-lm up --port " in done.stderr


# A full disk


class Disk:
    """A disk of 64 MB with a workspace on it."""

    def __init__(self, place):
        self.place = place
        self._ballast = place / "ballast"

    def leave(self, kilobytes):
        """Fill it, but for so much."""
        self._ballast.unlink(missing_ok=True)
        with open(self._ballast, "wb") as ballast:
            ballast.write(bytes(shutil.disk_usage(self.place).free - kilobytes * 1024))

    def make_room(self):
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield Disk(place)
    subprocess.run(["umount", str(place)], check=True)


def test_songs_that_find_no_room_are_taken_back(shelf, disk):
    """Whether the copy or DVC's cache meets the full disk: the corpus is as it was, and with room it works.

    (DVC calls it a success when it could not store a file.)
    """
    root = copied(shelf / "mine", disk.place)
    songs = disk.place.parent / "songs.csv"
    sample.write(songs, songs=1500, seed=5)
    for room in (1000, 2000):
        disk.leave(room)
        refused(root, "data", "add", songs, says=["the disk is full: ", "free some room and run again"])
    disk.leave(1000)
    refused(disk.place, "init", "new", "--corpus", songs, says=["the disk is full: ", "free some room"])
    disk.make_room()
    assert "added 1500 songs" in cli(root, "data", "add", str(songs)).stdout
    assert "not in cache" not in dvc(root, "status")


def test_a_training_that_finds_no_room_is_due_again(trained, disk, uri):
    """With no room for MLflow, or for a checkpoint: said so, not held against the model, and done with room.

    (The network ties its weights: two names of one tensor, in checkpoint and bundle.)
    """
    root = copied(trained[0], disk.place)
    settings = {"model.name": "models/own.py:Tied", "model.args.width": 30000, "training.steps": 4}
    set_params(root, {**settings, "training.checkpoint_every": 1})
    disk.leave(100)
    began = time.monotonic()
    refused(root, "train", says=["the disk is full: ", "kB are left", "free some room and run again"])
    assert time.monotonic() - began < 10
    disk.leave(3000)
    refused(root, "train", uri=uri, says=["the disk is full: ", "was not written; free some room and run again"])
    assert runs.of_inputs(uri, versioning.working(root).inputs) is None
    disk.make_room()
    assert '"done":true' in cli(root, "step", "train").stdout
