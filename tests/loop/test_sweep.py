"""A sweep: DVC runs its experiments, MLflow shows them as children of one run, and the best becomes a version."""

import sys

import mlflow
import pytest

from lyrics_lm import params, versioning
from lyrics_lm.registry import server, versions
from workspaces import cli, dvc, git, make_workspace, run


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two learning rates, run from the queue; and where MLflow listens."""
    root = make_workspace(tmp_path_factory.mktemp("sweep") / "mine", songs=150)
    with server.tracking(params.load(root)) as uri:
        for rate in ("0.001", "0.02"):
            dvc(root, "exp", "run", "--queue", "--name", f"rate-{rate[2:]}", "-S", f"training.learning_rate={rate}")

        run([sys.executable, "-m", "dvc", "exp", "run", "--run-all"], cwd=root, env=versioning.environment())
        yield root, uri


def test_experiments_are_children_of_one_run(swept):
    """Each with the settings it was given, its curve and its scores; none of them is a version."""
    root, uri = swept
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    [parent] = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
    children = {found.info.run_name: found for found in runs if found is not parent}
    assert parent.info.run_name == f"sweep from {git(root, 'rev-parse', 'HEAD')[:8]}"
    assert {name: found.data.params["training.learning_rate"] for name, found in children.items()} == {
        "rate-001": "0.001",
        "rate-02": "0.02",
    }
    for child in children.values():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == "FINISHED"
        assert len(client.get_metric_history(child.info.run_id, "train")) > 5
    assert len({child.data.metrics["test_bits_per_char"] for child in children.values()}) == 2
    assert versions.every(uri) == []


def test_an_experiment_becomes_a_version(swept):
    """Applied and registered: nothing is trained again, and the score is the one of the sweep."""
    root, uri = swept
    dvc(root, "exp", "apply", "rate-02")
    [score] = [
        child.data.metrics["test_bits_per_char"]
        for child in mlflow.MlflowClient(uri).search_runs(["1"], "attributes.run_name = 'rate-02'")
    ]
    before = (root / "build" / "model" / "model.onnx").stat().st_mtime_ns
    assert f"registered as version 1, {score:.3f} (" in cli(root, "train").stdout
    assert (root / "build" / "model" / "model.onnx").stat().st_mtime_ns == before
