"""Files made to harm: nothing in them is run, nothing is read or written beside them, and no memory is eaten up."""

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from bundles import bigram_bundle
from lyrics_lm import params, processes, versioning
from lyrics_lm.corpus import sample
from lyrics_lm.registry import server
from workspaces import LYRICS_LM, cli, git, make_workspace, run, set_params, wait_for

GIGABYTES = 4
REGISTER = """
import mlflow, sys
from mlflow.exceptions import MlflowException
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[1], "anything")
    source = run.info.artifact_uri + "/anything"
client = mlflow.MlflowClient()
try:
    client.create_registered_model("lyrics-lm")
except MlflowException:
    pass
client.create_model_version("lyrics-lm", source, run.info.run_id)
"""
HOP = {"host", "connection", "content-length", "transfer-encoding", "content-encoding"}


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, sprung):
        self.sprung = str(sprung)

    def __reduce__(self):
        return os.mkdir, (self.sprung,)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A workspace, to be copied."""
    return make_workspace(tmp_path_factory.mktemp("shelf") / "mine", songs=150)


@pytest.fixture
def root(shelf, tmp_path):
    return Path(shutil.copytree(shelf, tmp_path / "mine", symlinks=True))


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A registry for all workspaces here."""
    home = tmp_path_factory.mktemp("mlflow")
    with server.tracking(params.Settings(home, home, None, params.Params())) as address:
        yield address


def little_memory():
    """In the child: what takes more than a few gigabytes fails, instead of taking the machine down."""
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))


def refused(root, *args, says, **kwargs):
    done = cli(root, *map(str, args), check=False, **kwargs)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    [line] = done.stderr.splitlines()
    assert says in line


# Songs


def _many_rows(path):
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000_000, dtype=np.int32)), pa.array(["la la"]))
    pq.write_table(pa.table({"text": words}), path, compression="zstd")


def _long_rows(path):
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, dtype=np.int32)), pa.array(["la " * 100_000]))
    pq.write_table(pa.table({"text": words}), path, compression="zstd")


def _tight_pages(path):
    table = pa.table({"text": ["la " * 10_000_000] * 10})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)


def _unread_column(path):
    table = pa.table({"text": ["la la"] * 10, "picture": ["la " * 10_000_000] * 10})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)


@pytest.mark.parametrize("make", [_many_rows, _long_rows, _tight_pages, _unread_column])
def test_a_parquet_bomb_is_refused_before_it_is_read(root, tmp_path, make):
    """Kilobytes that unpack to gigabytes, however they are packed: told in one line, and the corpus is as it was."""
    make(tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 200_000
    refused(
        root, "data", "add", tmp_path / "bomb.parquet", says="unpacks to more than 268 MB", preexec_fn=little_memory
    )
    assert git(root, "status", "--porcelain") == ""


def test_songs_that_pack_well_are_no_bomb(root, tmp_path):
    """A thousand songs of one chorus, tightly packed, are taken."""
    songs = {
        "song": [f"song {n}" for n in range(1000)],
        "text": [f"verse {n}\n" + "la la la\n" * 200 for n in range(1000)],
    }
    pl.DataFrame(songs).write_parquet(tmp_path / "songs.parquet", compression="zstd", compression_level=22)
    assert (tmp_path / "songs.parquet").stat().st_size < 100_000
    assert "added 1000 songs" in cli(root, "data", "add", str(tmp_path / "songs.parquet")).stdout


@pytest.mark.parametrize("name", ["songs.csv", "songs.jsonl"])
@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_a_packed_file_is_not_unpacked(root, tmp_path, name, kind):
    """Under whatever name, what is no text is refused as such."""
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip" if kind == "zip" else "gztar", tmp_path / "mine"))
    packed.rename(tmp_path / name)
    refused(root, "data", "add", tmp_path / name, says="is a binary file")


@pytest.mark.parametrize("content", [pickle.dumps, lambda trap: b"PAR1" + pickle.dumps(trap) + b"PAR1"])
def test_a_pickle_is_no_song_file(root, tmp_path, content):
    """Whatever it ends in, it is not loaded."""
    for suffix in (".csv", ".json", ".parquet"):
        path = tmp_path / f"songs{suffix}"
        path.write_bytes(content(Trap(tmp_path / "sprung")))
        assert cli(root, "data", "add", str(path), check=False).returncode == 1
    assert not (tmp_path / "sprung").exists()


def test_a_link_among_songs_is_followed_by_no_one_else(root, tmp_path):
    """Whoever names a link to `data add` means the file; the corpus gets its songs, and no link."""
    sample.write(tmp_path / "more.csv", songs=30, seed=5)
    (tmp_path / "link.csv").symlink_to("more.csv")
    assert "added 30 songs" in cli(root, "data", "add", str(tmp_path / "link.csv")).stdout
    [added] = [file for file in versioning.song_files(root) if "link" in file.name]
    assert added.read_bytes() == (tmp_path / "more.csv").read_bytes()


# A checkpoint


def _archive(trap):
    """What `torch.save` writes: a zip with a pickle in it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", trap)
    return packed.getvalue()


def test_a_malicious_checkpoint_is_never_unpickled(root, tmp_path):
    """A training that finds pickles in a checkpoint's place, by any name, begins anew and ends; nothing ran."""
    set_params(root, {"training.steps": 300, "training.checkpoint_every": 5})
    run([*versioning.reproduce_command(), "prepare"], cwd=root, env=versioning.environment())
    training = subprocess.Popen([*LYRICS_LM, "-C", str(root), "step", "train"], stdout=subprocess.DEVNULL)
    checkpoints = root / ".lyrics-lm" / "checkpoints"
    facts = wait_for(lambda: next(checkpoints.rglob("checkpoint.json"), None), every=0.01)
    training.kill()
    training.wait()
    kept = facts.read_bytes()
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    pickle.loads(trap)
    (tmp_path / "sprung").rmdir()  # it works
    for content in (trap, _archive(trap), len(trap).to_bytes(8, "little") + trap):
        facts.parent.mkdir(parents=True, exist_ok=True)
        facts.write_bytes(kept)
        for name in ("tensors.safetensors", "model.pt", "checkpoint.pkl", "optimizer.bin"):
            (facts.parent / name).write_bytes(content)
        assert '"done":true' in cli(root, "step", "train").stdout
        assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("facts", [b"[]", b"{}", b'{"key": 1}', b"[" * 100_000])
def test_a_checkpoint_of_no_sense_is_none(root, facts):
    """Whatever stands in it, training begins anew."""
    set_params(root, {"model.name": "transformer", "training.steps": 1})
    run([*versioning.reproduce_command(), "prepare"], cwd=root, env=versioning.environment())
    folder = root / ".lyrics-lm" / "checkpoints" / versioning.working(root).inputs[:16] / "1"
    folder.mkdir(parents=True)
    (folder / "checkpoint.json").write_bytes(facts)
    assert '"done":true' in cli(root, "step", "train").stdout


# Bundles


def _pickled(folder, outside):
    (folder / "model.onnx").write_bytes(pickle.dumps(Trap(outside / "sprung")))


def _linked(folder, outside):
    shutil.move(folder / "model.onnx", outside / "model.onnx")
    (folder / "model.onnx").symlink_to(outside / "model.onnx")


def _linked_folder(folder, outside):
    (folder / "extra").symlink_to(outside, target_is_directory=True)


def _climbing(folder, outside):
    shutil.copy(folder / "model.onnx", outside / "model.onnx")
    _list(folder, f"../{outside.name}/model.onnx", outside / "model.onnx")


def _absolute(folder, outside):
    shutil.copy(folder / "model.onnx", outside / "model.onnx")
    _list(folder, str(outside / "model.onnx"), outside / "model.onnx")


def _list(folder, name, file):
    manifest = json.loads((folder / "contract.json").read_text())
    manifest["files"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "contract.json").write_text(json.dumps(manifest))


SPOILT = [
    (_pickled, "is a pickle, which can run code when read"),
    (_linked, "which is outside its directory; list plain file names only"),
    (_linked_folder, "is not listed in its contract"),
    (_climbing, "which is outside its directory; list plain file names only"),
    (_absolute, "which is outside its directory; list plain file names only"),
]


@pytest.mark.parametrize(("spoil", "says"), SPOILT, ids=lambda value: getattr(value, "__name__", ""))
def test_a_malicious_bundle_is_refused_at_the_command_line(root, tmp_path, spoil, says):
    """`check` and `register` name what is wrong; nothing ran, and no registry was asked."""
    made = bigram_bundle(tmp_path / "bundle")
    (tmp_path / "outside").mkdir()
    spoil(made.path, tmp_path / "outside")
    refused(root, "register", made.path, says=says)
    checked = cli(root, "check", str(made.path), check=False)
    assert checked.returncode == 1
    assert says.partition(";")[0] in checked.stderr
    assert not (tmp_path / "outside" / "sprung").exists()
    assert not (root / ".lyrics-lm" / "mlflow").exists()


# A registry


class Lying:
    """A registry that hands over files of other names than were stored; else a real MLflow behind it."""

    def __init__(self, mlflow):
        self._mlflow = mlflow
        self._client = httpx.AsyncClient(timeout=60)
        self.name = "model.onnx"
        self.told = 0
        methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self):
        self._thread.start()
        wait_for(lambda: self._server.started, seconds=10)
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join()

    async def _answer(self, request):
        path = request.path_params["path"]
        if "mlflow-artifacts/artifacts/" in path and path.endswith("evil"):
            return Response(b"evil")
        headers = {name: value for name, value in request.headers.items() if name not in HOP}
        answer = await self._client.request(
            request.method,
            f"{self._mlflow}/{path}",
            params=request.query_params.multi_items(),
            content=await request.body(),
            headers=headers,
        )
        content = answer.content
        if b'"files"' in content and path.endswith("/artifacts"):
            listed = json.loads(content)
            listed["files"] = [self._renamed(file) for file in listed["files"]]
            content = json.dumps(listed).encode()
        kept = {name: value for name, value in answer.headers.items() if name not in HOP}
        return Response(content, answer.status_code, kept)

    def _renamed(self, file):
        if not file["path"].endswith("model.onnx"):
            return file
        self.told += 1
        return {**file, "path": self.name}


@pytest.mark.parametrize("name", ["../../../../evil", "%2e%2e/%2e%2e/evil", "{outside}/evil", "..\\..\\evil"])
def test_files_of_a_lying_registry_stay_in_their_folder(root, uri, tmp_path, name):
    """A file name that climbs, or begins at the root, is not written: the delivery fails or the version is refused."""
    registered = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    run([sys.executable, "-c", REGISTER, str(bigram_bundle(tmp_path / "bundle").path)], env=registered)
    outside = tmp_path / "outside"
    outside.mkdir()
    before = _all_files(tmp_path)
    with Lying(uri) as lying:
        lying.name = name.format(outside=outside)
        done = cli(root, "deliver", check=False, env={**os.environ, "MLFLOW_TRACKING_URI": lying.url})
    assert lying.told, "the lie was never told"
    assert "Traceback" not in done.stderr
    assert not [path for path in _all_files(tmp_path) - before if path.name == "evil"], done.stderr
    assert not Path("/evil").exists()


def _all_files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}
