"""The DAGs of a workspace, loaded and run by a real Airflow, without its scheduler."""

import itertools

import pytest

from airflows import ours, python
from bundles import bigram_bundle
from drifting import turn
from lyrics_lm import params, rollout
from lyrics_lm.registry import server, versions
from lyrics_lm.steps.register import register_bundle
from lyrics_lm.steps.release import Release
from workspaces import cli, git, make_workspace, set_params

STRUCTURE = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(None)
def told(dag):
    return {
        "tasks": [task.task_id for task in dag.topological_sort()],
        "chain": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "retries": {task.task_id: task.retries for task in dag.tasks},
        "runs": dag.max_active_runs,
        "watched": [watcher.name for asset in dag.timetable.asset_condition.objects for watcher in asset.watchers],
    }
print(json.dumps({"errors": bag.import_errors, "dags": {name: told(dag) for name, dag in bag.dags.items()}}))
"""
TEST = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dags = DagBag(None).dags
runs = [dags[name].test() for name in sys.argv[1:]]
print(json.dumps([{ti.task_id: ti.state for ti in run.get_task_instances()} for run in runs]))
"""
SEEN = """
import asyncio, json, sys, time
import lyrics_lm_events
async def first():
    async for event in getattr(lyrics_lm_events, sys.argv[1])(sys.argv[2]).run():
        return event.payload
print(json.dumps(asyncio.run(asyncio.wait_for(first(), 30))))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A workspace with its registry and an Airflow of its own."""
    root = make_workspace(
        tmp_path_factory.mktemp("dags") / "mine", songs=150, **{"model.name": "bigram", "drift.reference": 60}
    )
    airflow = ours(root)
    with server.tracking(params.load(root)) as airflow_uri:
        assert airflow.prepare()
        yield airflow, airflow_uri


def test_the_dags_are_whole(shop):
    """They load, with the tasks a person looks for, each waiting for the one before it; one release at a time."""
    found = python(shop[0], STRUCTURE)
    assert found["errors"] == {}
    release, retrain, drift = (found["dags"][name] for name in ("release", "retrain", "watch_drift"))
    names = list(Release.STEPS)
    assert release["tasks"] == names
    assert release["chain"] == {name: [after] for name, after in itertools.pairwise(names)} | {"deploy": []}
    assert release["runs"] == 1
    assert release["retries"]["branch_on_new_model"] == 0
    assert retrain["tasks"] == ["prepare", "train", "evaluate", "export", "register"]
    assert drift["tasks"] == ["drift_alarm", "drift_answer"]
    assert [dag["watched"] for dag in (release, retrain, drift)] == [["registry"], ["corpus"], ["drift"]]


@pytest.mark.timeout(900)
def test_retrain_and_release_take_a_commit_live_and_then_rest(shop):
    """Two DAGs take a workspace from songs to a live model, stage by stage; with nothing new, they skip."""
    airflow, _ = shop
    assert python(airflow, SEEN, "CorpusEye", str(airflow.root))["registered"] is False
    trained, released, rest, no_drift = python(airflow, TEST, "retrain", "release", "release", "watch_drift")
    assert set(trained.values()) == {"success"}
    assert set(released.values()) == {"success"}
    assert rollout.read(airflow.home, "local").live.version == 1
    assert (rest.pop("fetch_new_model"), set(rest.values())) == ("success", {"skipped"})
    assert set(no_drift.values()) == {"skipped"}


def test_a_rejected_version_ends_its_run_cleanly_with_the_reason(shop):
    """A bundle that no gate would pass wakes the eye; its run stops after the verdict, and nothing else changes."""
    airflow, uri = shop
    stranger = bigram_bundle(airflow.root.parent / "worse")
    version = register_bundle(uri, stranger).version
    assert python(airflow, SEEN, "RegistryEye", str(airflow.root)) == {"versions": [version]}
    [states] = python(airflow, TEST, "release")
    judged = ("fetch_new_model", "branch_on_new_model", "select_model")
    assert {name for name, state in states.items() if state == "success"} == set(judged)
    assert {state for name, state in states.items() if name not in judged} == {"skipped"}
    assert not versions.get(uri, version).verdict.passed
    assert rollout.read(airflow.home, "local").live.version == 1


@pytest.mark.timeout(900)
def test_a_drift_is_answered_once(shop):
    """Traffic that turned wakes `watch_drift`; its answer is given, and not again."""
    airflow, _ = shop
    turn(params.load(airflow.root))
    assert python(airflow, SEEN, "DriftEye", str(airflow.root))["action"] == "tell"
    first, second = python(airflow, TEST, "watch_drift", "watch_drift")
    assert set(first.values()) == {"success"}
    assert set(second.values()) == {"skipped"}


def test_what_cannot_be_trained_is_tried_once(shop):
    """A network that breaks ends its training with the reason; another try fails at once, and then nothing is due."""
    root = shop[0].root
    (root / "models" / "broken.py").write_text("class Broken:\n    pass\n")
    set_params(root, {"model.name": "models/broken.py:Broken"})
    git(root, "add", "models")
    git(root, "commit", "-qam", "break it")
    begun = cli(root, "step", "retrain_prepare", "--skip-code", "99").stdout
    reasons = [cli(root, "step", "retrain_train", input=begun, check=False).stderr for _ in range(2)]
    assert reasons[0] == reasons[1]
    assert "Broken" in reasons[0]
    rest = cli(root, "step", "retrain_prepare", "--skip-code", "99", check=False)
    assert rest.returncode == 99
    assert "Broken" in rest.stderr
