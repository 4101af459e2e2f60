"""Airflow for tests: the one environment that `make setup` installs, and a database per test module."""

import json
import os
import subprocess
from pathlib import Path

from lyrics_lm.orchestration.airflow import Airflow

VENV = Path(os.environ.get("LYRICS_LM_AIRFLOW") or Path(__file__).parents[1] / ".venv-airflow")
PYTHON = VENV / "bin" / "python"


def ours(workspace: Path, port: int = 8080) -> Airflow:
    """The Airflow of a workspace, as `lyrics-lm airflow up` makes it."""
    return Airflow(VENV / "bin" / "airflow", workspace, workspace / ".lyrics-lm", port)


def python(airflow: Airflow, script: str, *args: str) -> dict:
    """What a script prints last, as JSON; run by Airflow's Python with its settings and its plugins at hand."""
    path = os.pathsep.join([str(airflow.root / "dags" / "plugins"), os.environ.get("PYTHONPATH", "")])
    told = {**os.environ, **airflow.environment(), "PYTHONPATH": path}
    done = subprocess.run([PYTHON, "-c", script, *args], env=told, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[-1])
