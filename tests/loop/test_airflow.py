"""The loop under a real Airflow: scheduler, triggerer, DAG processor and API server, as `airflow up` runs them."""

import json
import os
import shutil
import time

import pytest

from airflows import AirflowUp, moment
from lyrics_lm import processes, rollout
from lyrics_lm.orchestration.airflow import ROLES
from lyrics_lm.registry import versions
from workspaces import cli, git, make_workspace, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A loop under Airflow that brought its first model live, and a better bundle that a colleague made elsewhere."""
    folder = tmp_path_factory.mktemp("airflow")
    workspace = make_workspace(folder / "mine", **{"model.name": "bigram"})
    elsewhere = {**os.environ, "LYRICS_LM_HOME": str(folder / "elsewhere")}
    cli(workspace, "train", "--set", "model.name=transformer", env=elsewhere)
    shutil.copytree(workspace / "build" / "bundle", folder / "bundle")
    git(workspace, "checkout", "-q", "params.yaml")
    running = AirflowUp(workspace)
    running.bundle = folder / "bundle"
    try:
        began = time.time()
        running.wait_ready()
        print(f"\nup to login: {time.time() - began:.1f} s")
        running.wait_live(version=1, seconds=500)
        print(f"up to first model live: {time.time() - began:.1f} s")
        yield running
    finally:
        running.end()


def test_what_is_committed_is_trained_and_goes_live(up):
    """Nobody pressed anything: `retrain` made the first version, its registration woke `release`."""
    assert up.live()["architecture"] == "bigram"
    [trained] = [run for run in up.runs("retrain") if "success" in states(up, "retrain", run, "register")]
    assert set(states(up, "retrain", trained)) == {"success"}


def test_a_model_registered_from_outside_is_live_soon(up):
    """An event, not the clock, starts its release; every task is one step; then it answers."""
    up.wait_quiet()
    before = {run["dag_run_id"] for run in up.runs("release")}
    number = json.loads(cli(up.workspace, "register", str(up.bundle), "--json").stdout)["version"]
    registered = versions.get((up.home / "mlflow" / "server.url").read_text(), number).created
    up.wait_live(version=number, seconds=400)
    live = rollout.read(up.home, "local").current
    [run, *_] = [run for run in up.runs("release") if run["dag_run_id"] not in before]
    tasks = wait_for(lambda: finished(up.tasks("release", run["dag_run_id"])), seconds=60)
    assert run["run_type"] == "asset_triggered"
    assert {task["state"] for task in tasks.values()} == {"success"}
    began = {name: round(moment(task["start_date"]) - registered, 1) for name, task in tasks.items()}
    print(f"\nregistered -> tasks began, seconds: {began}; live after {live.time - registered:.1f}: {live.reason}")
    assert began["fetch_new_model"] < 5
    assert f"version {number} is live" in up.said


def test_ctrl_c_leaves_nothing_behind(up):
    """Scheduler, triggerer, processor, API server, their tasks, MLflow and the service: all of them end."""
    assert all(up.pids(role) for role in ("service", "mlflow", "controller", *ROLES))
    up.interrupt()
    assert up.said.rstrip().endswith("stopped")
    assert processes.leftovers(up.home, *up.roles) == []


def states(up, dag, run, *names):
    tasks = up.tasks(dag, run["dag_run_id"])
    return [task["state"] for name, task in tasks.items() if not names or name in names]


def finished(tasks):
    return tasks if all(task["end_date"] for task in tasks.values()) else None
