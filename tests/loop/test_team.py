"""What a team uses around the loop, run for real: the notebook and the workflows of a workspace, and our own CI."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from dagshub import REPO, dagshub
from lyrics_lm import cli as command_line
from lyrics_lm import connection, params, versioning
from lyrics_lm.evaluation import conformance
from lyrics_lm.registry import runs, server, versions
from workspaces import cli, dvc, git, make_workspace, run, set_params

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "src" / "lyrics_lm" / "workspace" / "template"
NOTEBOOK = Path("notebooks") / "train_on_colab.ipynb"
WORKFLOWS = [*TEMPLATE.glob(".github/workflows/*.yml"), *ROOT.glob(".github/workflows/*.yml")]
BRANCH = "slower"


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A DagsHub, and a workspace that shares its songs there and its commits in a bare repository."""
    folder = tmp_path_factory.mktemp("team")
    with dagshub(folder / "hub") as hub:
        root = make_workspace(folder / "mine", songs=150, **{"model.name": "bigram"})
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, **hub.environment(), "DAGSHUB_REPO": REPO, "PATH": path}
        cli(root, "connect", "dagshub", REPO, env=environment)
        git(root, "commit", "-qam", "share")
        dvc(root, "push", versioning.POINTER)
        cli(root, "train")
        git(folder, "clone", "-q", "--bare", str(root), str(folder / "origin.git"))
        yield folder, hub, environment


def steps(workflow):
    [job] = yaml.safe_load(workflow.read_text())["jobs"].values()
    return job["steps"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_one(workflow):
    """It keeps to GitHub's schema; its scripts parse, call verbs that exist, and take no expression into the shell."""
    run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(workflow)])
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    for script in scripts:
        run(["bash", "-n"], input=script)
        assert "${{" not in script
        assert set(re.findall(r"lyrics-lm (\w+)", script)) <= set(command_line.main.commands)
    assert scripts


def test_the_train_workflow_trains_and_reports(team, tmp_path):
    """Every step of it, as it stands, in a clone of a pull request: a new version, and a comment with pictures."""
    folder, _, environment = team
    clone, bin_ = tmp_path / "work" / "clone", tmp_path / "bin"
    git(tmp_path, "clone", "-q", str(folder / "origin.git"), str(clone))
    set_params(clone, {"tokenizer.kind": "characters", "corpus.near_duplicate": 0.7})
    git(clone, "commit", "-qam", "split otherwise")
    git(clone, "push", "-q", "origin", f"HEAD:{BRANCH}")
    bin_.mkdir()
    (bin_ / "gh").write_text(f"#!/bin/sh\necho $@ >{tmp_path}/said\ncp build/report/report.md {tmp_path}/comment.md\n")
    (bin_ / "gh").chmod(0o755)
    told = {"BASE": "main", "NUMBER": "7", "PICTURES": "https://github.com/ann/mine/raw", "CI": "true"}
    path = os.pathsep.join([str(bin_), environment["PATH"]])
    for step in steps(TEMPLATE / ".github" / "workflows" / "train.yml"):
        if "run" in step and step["name"] != "Install":
            run(["bash", "-e", "-c", step["run"]], cwd=clone, env={**environment, **told, "PATH": path})
    comment = (tmp_path / "comment.md").read_text()
    assert "pr comment 7" in (tmp_path / "said").read_text()
    [picture, _] = re.findall(r"\]\(https://github.com/ann/mine/raw/(.*?)\)", comment)
    commit, _, name = picture.partition("/")
    origin = folder / "origin.git"
    shown = subprocess.run(["git", "show", f"{commit}:{name}"], cwd=origin, capture_output=True, check=True)
    assert shown.stdout.startswith(b"\x89PNG")
    assert git(origin, "log", "--format=%s", "reports").splitlines() == ["Pictures of #7"]


def test_the_notebook_trains_and_registers(team, tmp_path):
    """Top to bottom, with a reader's own settings: what it leaves in the registry conforms, and names no device."""
    folder, hub, environment = team
    notebook = nbformat.read(TEMPLATE / NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    [settings] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    told = {
        "WORKSPACE": str(folder / "origin.git"),
        "DAGSHUB_REPO": REPO,
        "SETTINGS": "--set model.name=transformer --set training.steps=20 --set model.layers=1",
    }
    settings.source += f"\nos.environ |= {told}"
    kernel = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    kernel["PYTHONPATH"] = str(ROOT / "src")
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute(env=kernel)
    said = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert "waiting: " in said
    assert _pictures(notebook) == 2
    made = tmp_path / "workspace" / "build" / "bundle"
    assert conformance.check(made).failure is None
    assert not any(word in (made / "contract.json").read_text() for word in ('"cuda', '"gpu'))
    settings = params.load(tmp_path / "workspace")
    with server.tracking(settings) as uri:
        newest = versions.every(uri)[-1]
        assert newest.verdict is None
        assert "transformer" in runs.get(uri, newest.run).params["model.name"]
    assert connection.read(settings.home).tracking_uri == f"{hub.url}/{REPO}.mlflow"


def _pictures(notebook):
    data = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum(base64.b64decode(item["image/png"]).startswith(b"\x89PNG") for item in data if "image/png" in item)
