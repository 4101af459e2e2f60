"""The whole loop on one machine, as a person meets it: one `up`, looked at from outside."""

import json
import os
import signal
import sys
import time

import httpx
import pytest

from bundles import bigram_bundle
from load import PROMPT, Load
from workspaces import Up, cli, dvc, git, make_workspace, run, set_params, wait_for

REGISTER = """
import mlflow, sys
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[1], "anything")
    source = run.info.artifact_uri + "/anything"
mlflow.MlflowClient().create_model_version("lyrics-lm", source, run.info.run_id)
"""
GENERATE = """
import mlflow
model = mlflow.pyfunc.load_model("models:/lyrics-lm@champion")
print(model.predict(["love is"], params={"max_tokens": 40})[0])
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """A running loop in which the transformer has just replaced the bigram under load."""
    workspace = make_workspace(tmp_path_factory.mktemp("up") / "mine")
    running = Up(workspace)
    try:
        running.first = running.wait_live(seconds=60)
        with Load(running.url) as running.load:
            running.second = running.wait_live(architecture="transformer", seconds=120)
            time.sleep(0.5)
        yield running
    finally:
        running.end()


def test_the_bigram_is_live_first_and_the_transformer_replaces_it(up):
    """Something is live at once; the better model takes over by itself, and says why."""
    assert up.first["architecture"] == "bigram"
    assert up.second["version"] == up.first["version"] + 1
    assert up.second["bits_per_char"] < up.first["bits_per_char"]
    assert "against the champion's" in up.second["reason"]


def test_a_takeover_fails_no_request_and_mixes_no_answer(up):
    """Eight clients asking through the takeover: no failure, and one text per version and seed."""
    assert up.load.failures == []
    assert set(up.load.texts) == {up.first["digest"], up.second["digest"]}
    assert [len(texts) for texts in up.load.texts.values()] == [1, 1]
    assert up.load.answers > 20


def test_the_terminal_narrates_in_a_few_calm_lines(up):
    """What went live, why, in how many seconds and where to look; not the logs of five tools."""
    lines = up.said.splitlines()
    assert f"{up.url}/" in lines[0]
    assert len(lines) < 10
    assert any("version 1 is live after" in line for line in lines)
    assert "Traceback" not in up.said


def test_the_page_is_served(up):
    """The page comes with its script and its style, all from this server."""
    page = httpx.get(f"{up.url}/")
    assert page.status_code == 200
    assert "/page/page.js" in page.text
    assert httpx.get(f"{up.url}/page/page.js").status_code == 200


def test_health_and_metrics_answer(up):
    """Probes and Prometheus find what they look for, with a request id on every answer."""
    for path in ("/livez", "/readyz", "/metrics"):
        answer = httpx.get(up.url + path)
        assert answer.status_code == 200
        assert answer.headers["x-request-id"]
    httpx.post(f"{up.url}/v1/completions", json={"prompt": PROMPT, "max_tokens": 9})
    counted = httpx.get(f"{up.url}/metrics").text
    digest = up.live()["digest"]
    for name in ("requests_total", "tokens_total", "batch_size", "queue_depth", "time_to_first_token_seconds_count"):
        assert f'lyrics_lm_{name}{{digest="{digest}"' in counted


def test_why_leads_from_an_answer_to_its_commit(up):
    """A request id leads to version, verdict, run, params, commit and corpus."""
    answer = httpx.post(f"{up.url}/v1/completions", json={"prompt": PROMPT})
    request = answer.headers["x-request-id"]
    chain = wait_for(lambda: _json(up.workspace, "why", request), seconds=20)
    assert chain["request"]["request"] == request
    assert chain["digest"] == answer.headers["x-model-digest"] == up.live()["digest"]
    assert chain["verdict"]["gates"][0]["gate"] == "quality"
    assert chain["params"]["model.name"] == "transformer"
    assert chain["commit"] == git(up.workspace, "rev-parse", "HEAD").strip()
    assert chain["dirty"] is False
    assert chain["corpus"].endswith(".dir")


def test_status_tells_what_is_live_and_what_was_decided(up):
    """One look shows the live version, what waits and the verdicts."""
    status = _json(up.workspace, "status")
    assert status["live"]["versions"][0]["digest"] == up.live()["digest"]
    assert status["pending"] == []
    assert [verdict["version"] for verdict in status["verdicts"]] == [2, 1]


def test_the_workspace_holds_the_results_of_its_commit(up):
    """What the controller trained is there for DVC: metrics of the model beside the bigram's."""
    shown = json.loads((up.workspace / "build" / "metrics.json").read_text())
    assert shown["bits_per_char"] < shown["bigram"]["bits_per_char"]
    assert "build/metrics.json" in dvc(up.workspace, "metrics", "show")


def test_undo_is_at_once_and_goes_back_further_each_time(up):
    """One command brings the old version back; with nothing before it, it says so and changes nothing."""
    began = time.monotonic()
    with Load(up.url, clients=2) as load:
        cli(up.workspace, "undo")
        assert up.live()["version"] == 1
    assert load.failures == []
    assert time.monotonic() - began < 20
    refused = cli(up.workspace, "undo", check=False)
    assert refused.returncode == 1
    assert "nothing to undo" in refused.stderr
    assert up.live()["version"] == 1


def test_a_commit_is_trained_and_delivered_with_no_hand_on_it(up):
    """Committing a better setting is all it takes to have it live."""
    set_params(up.workspace, {"training.steps": 160, "training.seed": 2})
    git(up.workspace, "commit", "-qam", "train longer")
    live = up.wait_live(version=3, seconds=120)
    assert live["architecture"] == "transformer"


def test_a_worse_commit_is_told_why_not(up):
    """A version that fails a gate never touches what serves, and the reason is in the terminal."""
    before = up.live()
    set_params(up.workspace, {"model.name": "bigram"})
    git(up.workspace, "commit", "-qam", "count instead")
    line = up.wait_said("version 4 was rejected")
    assert "bits per character against the champion's" in line
    assert up.live() == before


def test_broken_model_code_is_told_by_file_and_line(up):
    """A network that does not import is not tried for ever: one line says where it is broken."""
    (up.workspace / "models" / "mine.py").write_text("import torch\nclass Mine(torch.nn.Module:\n")
    set_params(up.workspace, {"model.name": "models/mine.py:Mine"})
    git(up.workspace, "add", "--all")
    git(up.workspace, "commit", "-qm", "a network of my own")
    assert "mine.py" in up.wait_said("SyntaxError")


def test_a_network_of_ones_own_is_trained_and_judged(up):
    """The example network goes through training, export and gates like the built-in one."""
    (up.workspace / "models" / "mine.py").unlink()
    set_params(up.workspace, {"model.name": "models/conv.py:Conv"})
    git(up.workspace, "commit", "-qam", "the example network")
    wait_for(lambda: _version(up.workspace, 5), seconds=120, every=2)


def test_what_a_stranger_registers_is_dealt_with(up, tmp_path):
    """A version that plain MLflow calls registered, bundle or not, gets its verdict like any other."""
    bundle = bigram_bundle(tmp_path / "bundle")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "hello.txt").write_text("hello")
    for folder in (bundle.path, tmp_path / "junk"):
        run([sys.executable, "-c", REGISTER, str(folder)], env=_with_mlflow(up))
    assert "bits per character against" in up.wait_said("version 6 was rejected", seconds=60)
    assert "holds no contract.json" in up.wait_said("version 7 was rejected", seconds=60)


def test_the_champion_generates_through_plain_mlflow(up):
    """`models:/lyrics-lm@champion` gives lyrics to anyone with MLflow, in a process of their own."""
    said = run([sys.executable, "-c", GENERATE], env=_with_mlflow(up)).stdout
    assert said.startswith("love is")
    assert len(said.rstrip("\n")) > len("love is")


@pytest.mark.parametrize("role", ["mlflow", "controller", "service"])
def test_a_killed_process_is_started_again(up, role):
    """kill -9 of any part: the rest goes on, and the part is back with what it served."""
    before = up.live()
    pids = set(up.pids(role))
    os.kill(up.pids(role)[0], signal.SIGKILL)
    if role != "service":
        assert up.live() == before
    wait_for(lambda: up.pids(role) and not pids & set(up.pids(role)), seconds=30)  # its orphans are stopped too
    assert up.wait_live(version=before["version"], seconds=30)["digest"] == before["digest"]


def test_up_again_is_refused_while_it_runs(up):
    """A second `up` of the same workspace says so and touches nothing."""
    refused = cli(up.workspace, "up", "--port", "1024", check=False)
    assert refused.returncode == 1
    assert "is up already" in refused.stderr


def test_after_a_kill_of_up_the_champion_is_served_first(up):
    """kill -9 of `up`: the next `up` stops what was left and serves at once, before MLflow is back."""
    before = up.live()
    up.kill()
    up.start()
    assert up.wait_live(seconds=30)["digest"] == before["digest"]


def test_ctrl_c_leaves_nothing_running(up):
    """Interrupted, `up` ends with everything that it started."""
    wait_for(lambda: up.pids("controller"), seconds=30)
    up.interrupt()
    assert not up.pids("service") + up.pids("mlflow") + up.pids("controller") + up.pids("training")
    assert up.said.rstrip().endswith("stopped")


def _json(workspace, *args):
    done = cli(workspace, *args, "--json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def _version(workspace, number):
    status = _json(workspace, "status")
    return next((item for item in status["verdicts"] if item["version"] == number), None)


def _with_mlflow(up):
    """The environment in which plain MLflow finds the registry of this loop."""
    return {**os.environ, "MLFLOW_TRACKING_URI": (up.home / "mlflow" / "server.url").read_text()}
