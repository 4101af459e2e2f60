"""A workspace connected to a team's servers: set up by one command, checked, and then used as if nothing changed."""

import json
import os
import shutil
import stat

import pytest

from dagshub import READER, REPO, STRANGER, WRITER, dagshub
from lyrics_lm import params, processes, rollout, versioning
from lyrics_lm.registry import server
from workspaces import cli, dvc, git, make_workspace, run


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with dagshub(tmp_path_factory.mktemp("dagshub")) as host:
        yield host


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A fresh workspace, to be copied."""
    return make_workspace(tmp_path_factory.mktemp("blank") / "mine", songs=150, **{"model.name": "bigram"})


@pytest.fixture(scope="module")
def connected(host, blank, tmp_path_factory):
    """A workspace whose live version was delivered before it was connected."""
    root = shutil.copytree(blank, tmp_path_factory.mktemp("connected") / "mine")
    with server.tracking(params.load(root)):
        cli(root, "train")
        cli(root, "deliver")
    git(root, "add", "dvc.lock")
    said = cli(root, "connect", "dagshub", REPO, env={**os.environ, **host.environment()}).stdout
    git(root, "commit", "-qam", "songs are shared")
    return root, said


def connect(root, host, token=WRITER, **environment):
    env = {**os.environ, **host.environment(token), **environment}
    return cli(root, "connect", "dagshub", REPO, env=env, check=False)


def test_connecting_says_what_it_did(connected, host):
    """Both servers by name, written to and read from; what to commit; what became of the live version."""
    _, said = connected
    assert f"{host.url}/{REPO}.mlflow is the registry, written to and read from" in said
    assert f"{host.url}/{REPO}.dvc is the default remote, written to and read from" in said
    assert "version 1 goes on serving; in this registry it is version 1" in said


def test_the_token_is_in_no_tracked_file_and_no_output(connected):
    """Git knows the address alone; the files that hold the token are their owner's to read."""
    root, said = connected
    assert WRITER not in said
    assert WRITER not in run(["git", "grep", "-I", "", "HEAD"], cwd=root).stdout
    assert git(root, "status", "--porcelain", "--untracked-files=all").strip() == ""
    holders = [path for path in root.rglob("*") if path.is_file() and WRITER.encode() in path.read_bytes()]
    assert {path.name for path in holders} == {"connection.json", "config.local"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}
    assert WRITER not in repr(params.load(root))


def test_everything_runs_against_the_server_as_before(connected, host):
    """Train, register, deliver, why and status, with nothing set in the environment; and none of it asks here."""
    root, _ = connected
    host.asked.clear()
    shutil.rmtree(root / ".lyrics-lm" / "mlflow")
    trained = json.loads(cli(root, "train", "--set", "corpus.near_duplicate=0.6", "--json").stdout)
    assert trained["version"] == 2
    assert "version 2 was rejected" in cli(root, "deliver").stdout
    assert json.loads(cli(root, "why", "2", "--json").stdout)["commit"] == git(root, "rev-parse", "HEAD").strip()
    assert "live when the registry moved" in cli(root, "why").stdout
    assert cli(root, "doctor", "--port", str(processes.free_port())).returncode == 0
    assert not (root / ".lyrics-lm" / "mlflow").exists()
    assert any(method == "PUT" for method, _ in host.asked)
    git(root, "checkout", "-q", "params.yaml")


def test_a_clone_elsewhere_gives_the_same_metrics(connected, host, tmp_path):
    """git clone, dvc pull, dvc repro: another folder, the same numbers."""
    root, _ = connected
    dvc(root, "push", versioning.POINTER)
    run([*versioning.reproduce_command()], cwd=root, env=versioning.environment())
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(root), str(clone))
    assert not versioning.song_files(clone)
    assert connect(clone, host).returncode == 0
    dvc(clone, "pull", versioning.POINTER)
    run([*versioning.reproduce_command()], cwd=clone, env=versioning.environment())
    assert (clone / "build" / "metrics.json").read_bytes() == (root / "build" / "metrics.json").read_bytes()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("nonsense", "refuses the token"),
        (STRANGER, "does not let this token in"),
        (READER, "lets this token not write"),
    ],
)
def test_a_token_without_the_right_is_told_in_one_line(blank, host, token, reason):
    """Wrong, not let in, or only to read: one line that says which, and everything is as it was."""
    refused = connect(blank, host, token)
    assert refused.returncode == 1
    assert reason in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert_unconnected(blank)


def test_a_host_that_is_away_is_told_in_one_line(blank, host):
    """Its address, and what to do."""
    away = f"http://127.0.0.1:{processes.free_port()}"
    refused = connect(blank, host, DAGSHUB_CLIENT_HOST=away)
    assert refused.returncode == 1
    assert f"{away}/{REPO}.mlflow does not answer" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert_unconnected(blank)


@pytest.mark.parametrize(
    ("remote", "reason"), [("http://127.0.0.1:9/songs", "does not answer"), ("{url}/ann/other.dvc", "has no such")]
)
def test_a_dvc_remote_that_does_not_work_is_told_in_one_line(blank, host, remote, reason):
    """MLflow was well: it is undone too."""
    environment = {**os.environ, "MLFLOW_TRACKING_USERNAME": WRITER, "MLFLOW_TRACKING_PASSWORD": WRITER}
    remote = remote.format(url=host.url)
    servers = ("--tracking-uri", f"{host.url}/{REPO}.mlflow", "--dvc-remote", remote)
    refused = cli(blank, "connect", *servers, env=environment, check=False)
    assert refused.returncode == 1
    assert f"the DVC remote {remote} {reason}" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert_unconnected(blank)


def test_any_other_host_and_back(blank, host, tmp_path):
    """An MLflow server and a folder as DVC remote; `connect local` leaves the workspace as it was made."""
    root = shutil.copytree(blank, tmp_path / "mine")
    environment = {**os.environ, "MLFLOW_TRACKING_USERNAME": WRITER, "MLFLOW_TRACKING_PASSWORD": WRITER}
    servers = ("--tracking-uri", f"{host.url}/{REPO}.mlflow", "--dvc-remote", str(tmp_path / "shared"))
    cli(root, "connect", *servers, env=environment)
    dvc(root, "push")
    assert params.load(root).tracking_uri == f"{host.url}/{REPO}.mlflow"
    assert "embedded server" in cli(root, "connect", "local").stdout
    assert_unconnected(root)


def test_without_a_token_or_a_terminal_it_asks_for_the_variable(blank):
    """Nothing hangs waiting for somebody to type."""
    refused = cli(blank, "connect", "dagshub", REPO, check=False, stdin=-3)
    assert refused.returncode == 2
    assert "DAGSHUB_USER_TOKEN" in refused.stderr


def assert_unconnected(root):
    """The workspace is as `init` made it."""
    assert params.load(root).tracking_uri is None
    assert git(root, "status", "--porcelain").strip() == ""
    assert rollout.read(root / ".lyrics-lm", "local").live is None
    assert "remote" not in dvc(root, "config", "--list")
