"""Deliveries that die anywhere, and what the next pass makes of them; on a real MLflow server."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
from dataclasses import replace

import mlflow
import pytest
from filelock import FileLock

from lyrics_lm import processes, rollout
from lyrics_lm.bundle import CONTRACT
from lyrics_lm.errors import RegistryError
from lyrics_lm.registry import deployments, runs, server, versions
from lyrics_lm.registry.client import MODEL, asking
from lyrics_lm.steps.deliver import deliver
from lyrics_lm.steps.record import record
from lyrics_lm.steps.register import register
from lyrics_lm.steps.release import Candidate, Release
from lyrics_lm.steps.undo import undo
from shops import Shop
from workspaces import LYRICS_LM, cli, wait_for


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop whose first version, the floor, is live."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    cli(shop.root, "train", "--set", "model.name=bigram")
    with server.tracking(shop.settings) as shop.uri:
        deliver(shop.settings, shop.uri)
        assert rollout.read(shop.home, "local").live.version == 1
        # The floor is the best bigram there is; candidates are judged against a diluted one.
        first = shop.register(worse=True)
        assert deliver(shop.settings, shop.uri)[0].verdict.passed is False
        shop.rejected = first
        shop.install()
        yield shop


def assert_delivered_once(shop, version):
    """That version serves, is the champion, and its deployment is on record exactly once."""
    verdict = versions.get(shop.uri, version).verdict
    assert verdict.passed, verdict.reason
    assert rollout.read(shop.home, "local").live.version == version
    assert versions.champion(shop.uri).version == version
    assert versions.pending(shop.uri) == []
    taken = [item for item in deployments.every(shop.uri, "local") if item.versions[0].version == version]
    assert len(taken) == 1
    assert [item.versions[0].version for item in rollout.read(shop.home, "local").history].count(version) == 1


@pytest.mark.parametrize("last", Release.STEPS)
def test_a_delivery_that_dies_after_any_step_is_taken_up(shop, last):
    """Whichever step was the last, the next pass ends with the version live and recorded once."""
    version = shop.register()
    release = Release(shop.settings, shop.uri)
    candidate = Candidate()
    for name in Release.STEPS[: Release.STEPS.index(last) + 1]:
        candidate = release.step(name)(candidate)
    deliver(shop.settings, shop.uri)
    assert_delivered_once(shop, version)


def test_another_target_moves_no_yardstick(shop):
    """What is deployed elsewhere is on record, and the champion stays what serves here."""
    before, first = versions.champion(shop.uri).version, rollout.read(shop.home, "local").history[0]
    assert before != first.versions[0].version
    rollout.deploy(shop.home, "container", first.versions[0], "older, elsewhere", first.evidence)
    assert record(shop.uri, shop.home, "container") == 1
    assert versions.champion(shop.uri).version == before
    assert [one.target for one in deployments.every(shop.uri, "container")] == ["container"]


def test_a_version_turned_down_can_be_judged_again(shop):
    """Reopened, and reopened once more by whoever was killed meanwhile, it waits; the next pass judges it anew."""
    before = versions.get(shop.uri, shop.rejected).verdict
    for _ in range(2):
        versions.reopen(shop.uri, shop.rejected)
    assert [version.version for version in versions.pending(shop.uri)] == [shop.rejected]
    deliver(shop.settings, shop.uri)
    after = versions.get(shop.uri, shop.rejected).verdict
    assert after.time > before.time
    assert versions.pending(shop.uri) == []


def _bento_models(home):
    return len(list((home / "bentoml" / "models" / "lyrics-lm").glob("*")))


def _bentos(home):
    return len(list((home / "bentoml" / "bentos" / "lyrics-lm").glob("*")))


INSIDE = {
    "fetch_new_model": lambda home, _: any((home / "candidates").glob(".*.tmp")),
    "select_model": lambda home, _: any((home / "candidates").glob("[0-9]*")),
    "import_model": lambda home, before: _bento_models(home) > before[0],
    "build_bento": lambda home, before: _bentos(home) > before[1],
    "validate_bento": lambda home, _: processes.leftovers(home, "validation"),
    "deploy": lambda home, before: rollout.path(home, "local").stat().st_mtime_ns > before[2],
}


@pytest.mark.parametrize("step", INSIDE)
def test_a_delivery_killed_inside_a_step_is_taken_up(shop, step):
    """kill -9 in the middle of each step: nothing is half done, nothing is done twice."""
    version = shop.register()
    before = _bento_models(shop.home), _bentos(shop.home), rollout.path(shop.home, "local").stat().st_mtime_ns
    live_before = rollout.read(shop.home, "local").live.version
    environment = {**os.environ, "MLFLOW_TRACKING_URI": shop.uri}
    process = subprocess.Popen([*LYRICS_LM, "-C", str(shop.root), "deliver"], env=environment)
    wait_for(lambda: INSIDE[step](shop.home, before) or process.poll() is not None, seconds=60, every=0.002)
    assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()
    if step != "deploy":
        assert rollout.read(shop.home, "local").live.version == live_before
    processes.stop_leftovers(shop.home, "validation")
    deliver(shop.settings, shop.uri)
    assert_delivered_once(shop, version)


def test_an_orchestrator_runs_the_steps_one_by_one(shop):
    """Each step is a process that reads what the one before it wrote; a stranger's input is refused."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": shop.uri}
    version = shop.register()
    said = ""
    for name in Release.STEPS[:3]:
        said = cli(shop.root, "step", name, input=said, env=environment).stdout
    assert json.loads(said)["version"] == version
    refused = cli(shop.root, "step", "deploy", input='{"hello": 1', check=False, env=environment)
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert "was given no output of a step" in refused.stderr
    deliver(shop.settings, shop.uri)
    assert_delivered_once(shop, version)


def test_the_same_bundle_registered_twice_is_one_version(shop):
    """Registering what is there already gives its number back."""
    made = shop.bundle()
    first = register(shop.settings, made.path)
    again = register(shop.settings, made.path)
    assert (first.version, first.known) == (again.version, False)
    assert again.known
    deliver(shop.settings, shop.uri)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, sprung):
        self.sprung = sprung

    def __reduce__(self):
        return os.mkdir, (str(self.sprung),)


@pytest.mark.parametrize("place", ["python_model.pkl", "model.onnx", "tokenizer.json"])
def test_a_pickle_from_outside_is_never_loaded(shop, tmp_path, place):
    """An MLflow model of a stranger, or a bundle with a pickle in a file's place: turned down, and nothing ran."""
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    pickle.loads(trap)
    (tmp_path / "sprung").rmdir()  # it would have sprung
    folder = tmp_path / "model"
    if place == "python_model.pkl":
        folder.mkdir()
        flavor = "flavors: {python_function: {loader_module: mlflow.pyfunc.model, python_model: python_model.pkl}}"
        (folder / "MLmodel").write_text(flavor)
        (folder / place).write_bytes(trap)
    else:
        shutil.copytree(shop.bundle().path, folder)
        before = hashlib.sha256((folder / place).read_bytes()).hexdigest()
        (folder / place).write_bytes(trap)
        contract = (folder / CONTRACT).read_text()
        assert before in contract
        (folder / CONTRACT).write_text(contract.replace(before, hashlib.sha256(trap).hexdigest()))
    run = runs.start(shop.uri, "a stranger's", f"trap-{place}", {}, {})
    with asking(shop.uri) as client, mlflow.start_run(run_id=run):
        mlflow.log_artifacts(str(folder), "trap")
        number = int(client.create_model_version(MODEL, f"runs:/{run}/trap", run_id=run).version)
    deliver(shop.settings, shop.uri)
    verdict = versions.get(shop.uri, number).verdict
    assert verdict.passed is False
    assert [gate.gate for gate in verdict.gates] == ["conformance"]
    assert not (tmp_path / "sprung").exists()


def test_a_bundle_larger_than_the_gate_allows_is_rejected(shop):
    """The verdict names the gate, what was seen and what was asked for."""
    gates = shop.settings.params.gates.model_copy(update={"size_mb": 0.001})
    strict = replace(shop.settings, params=shop.settings.params.model_copy(update={"gates": gates}))
    version = shop.register()
    live = rollout.read(shop.home, "local").live
    [candidate] = deliver(strict, shop.uri)
    assert candidate.deployment is None
    failed = [gate for gate in versions.get(shop.uri, version).verdict.gates if not gate.passed]
    assert [gate.gate for gate in failed] == ["size"]
    assert rollout.read(shop.home, "local").live == live


def test_undo_works_while_mlflow_is_away_and_is_recorded_later(shop):
    """The rollout changes at once; the record and the champion's alias follow when MLflow is back."""
    before = rollout.read(shop.home, "local").live.version
    back = undo(shop.settings, "local")
    assert back.versions[0].version < before
    assert versions.champion(shop.uri).version == before
    assert record(shop.uri, shop.home, "local") == 1
    assert versions.champion(shop.uri).version == back.versions[0].version
    assert versions.pending(shop.uri) == []


def test_asking_mlflow_changes_no_environment(shop):
    """A child process must not take our own server for one that the person has named."""
    assert versions.champion(shop.uri)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert "MLFLOW_REGISTRY_URI" not in os.environ


def test_two_deliveries_at_once_are_refused(shop):
    """One delivery at a time per home: the second says so."""
    with FileLock(shop.home / "delivery.lock"):
        refused = cli(shop.root, "deliver", check=False)
    assert refused.returncode == 1
    assert "another delivery, or gc, runs" in refused.stderr


def test_an_mlflow_that_is_away_is_told_in_one_line(shop):
    """A configured server that does not answer: which one, and what to do; no traceback."""
    url = f"http://127.0.0.1:{processes.free_port()}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": url}
    refused = cli(shop.root, "status", check=False, env=environment)
    assert refused.returncode == 1
    assert url in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    with pytest.raises(RegistryError):
        server.wait(url, seconds=0.3)
