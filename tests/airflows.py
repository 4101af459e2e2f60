"""Airflow for tests: the one environment that `make setup` installs, and a database per test module."""

import json
import os
import re
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from lyrics_lm import processes
from lyrics_lm.orchestration.airflow import ROLES, USER, Airflow
from workspaces import Up, wait_for

VENV = Path(os.environ.get("LYRICS_LM_AIRFLOW") or Path(__file__).parents[1] / ".venv-airflow")
PYTHON = VENV / "bin" / "python"


def ours(workspace: Path, port: int = 8080) -> Airflow:
    """The Airflow of a workspace, as `lyrics-lm airflow up` makes it."""
    return Airflow(VENV / "bin" / "airflow", workspace, workspace / ".lyrics-lm", port)


def python(airflow: Airflow, script: str, *args: str) -> dict:
    """What a script prints last, as JSON; run by Airflow's Python with its settings and its plugins at hand."""
    path = os.pathsep.join([str(airflow.root / "dags" / "plugins"), os.environ.get("PYTHONPATH", "")])
    told = {**os.environ, **airflow.environment(), "PYTHONPATH": path}
    done = subprocess.run([PYTHON, "-c", script, *args], env=told, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[-1])


class AirflowUp(Up):
    """`lyrics-lm airflow up`, and what its API tells."""

    roles = (*Up.roles, *ROLES)

    def __init__(self, workspace: Path) -> None:
        os.environ["LYRICS_LM_AIRFLOW"] = str(VENV)
        self.airflow = f"http://127.0.0.1:{processes.free_port()}"
        self.verb = ("airflow", "up", "--airflow-port", self.airflow.rpartition(":")[2])
        super().__init__(workspace)
        self._headers: dict[str, str] = {}

    @property
    def password(self) -> str:
        """As it was shown in the terminal."""
        [shown] = re.findall(rf"user {USER}, password (\S+)", self.said)
        return str(shown)

    def wait_ready(self) -> None:
        """Return once a person can log in."""

        def token() -> str | None:
            try:
                answer = httpx.post(f"{self.airflow}/auth/token", json={"username": USER, "password": self.password})
            except httpx.TransportError:
                return None
            return str(answer.json()["access_token"]) if answer.is_success else None

        self._headers = {"authorization": f"Bearer {wait_for(token, 120)}"}

    def get(self, path: str) -> Any:
        """What Airflow's API answers."""
        answer = httpx.get(f"{self.airflow}/api/v2/{path}", headers=self._headers, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """All runs of a DAG, oldest first."""
        found: list[dict[str, Any]] = self.get(f"dags/{dag}/dagRuns?order_by=id&limit=100")["dag_runs"]
        return found

    def tasks(self, dag: str, run: str) -> dict[str, Any]:
        """The tasks of a run by their ids."""
        found = self.get(f"dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def wait_quiet(self, seconds: float = 300) -> None:
        """Return once each DAG ran, and nothing runs any more."""

        def quiet() -> bool:
            runs = [self.runs(dag) for dag in ("release", "retrain", "watch_drift")]
            return all(runs) and all(run["state"] in ("success", "failed") for of_dag in runs for run in of_dag)

        wait_for(quiet, seconds, every=2)


def moment(text: str) -> float:
    """Seconds since the epoch, of a time as the API writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
