"""One Airflow for one workspace on this machine: its settings, database, password and four processes."""

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lyrics_lm import durable
from lyrics_lm.errors import MachineError, WorkspaceError
from lyrics_lm.orchestration import after

ROLES = ("airflow-api", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
USER = "admin"
_WORKERS = 4
PASSWORDS = "passwords.json"


@dataclass(frozen=True)
class Airflow:
    """`executable` runs it; `root` and `home` are the workspace's; pages and API listen on `port` of loopback."""

    executable: Path
    root: Path
    home: Path
    port: int

    @property
    def folder(self) -> Path:
        """Where it keeps its database, secrets and the tasks' logs (AIRFLOW_HOME)."""
        return self.home / "airflow" / "state"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """All it is told; every other setting is its default. Tasks find this lyrics-lm, in this workspace, and
        say what a person should read where the controller would."""
        dags = self.root / "dags"
        settings = {
            "core__dags_folder": dags,
            "core__plugins_folder": dags / "plugins",
            "core__load_examples": False,
            "core__dags_are_paused_at_creation": False,
            "core__executor": "LocalExecutor",
            "core__parallelism": _WORKERS,
            "core__execution_api_server_url": f"{self.url}/execution/",
            "core__simple_auth_manager_users": f"{USER}:admin",
            "core__simple_auth_manager_passwords_file": self.folder / PASSWORDS,
            "api__host": "127.0.0.1",
            "api__port": self.port,
            "api__base_url": self.url,
            "api__workers": 1,
            "usage_data_collection__enabled": False,
        }
        return {
            **{f"AIRFLOW__{name.upper()}": str(value) for name, value in settings.items()},
            "AIRFLOW_HOME": str(self.folder),
            "SPT_NOENV": "1",  # its titles would overwrite the marks by which we find its processes
            "LYRICS_LM": str(Path(sys.executable).with_name("lyrics-lm")),
            "LYRICS_LM_HOME": str(self.home),
            "LYRICS_LM_WORKSPACE": str(self.root),
            "LYRICS_LM_NARRATION": str(self.home / "logs" / "controller.log"),
        }

    def prepare(self) -> str | None:
        """Make or move on its database; returns the password that was made for it, None where it has one.

        Raises `WorkspaceError` when the workspace holds no DAGs, `MachineError` when the database is not to be had.
        """
        if not (self.root / "dags" / "plugins").is_dir():
            raise WorkspaceError(
                f"{self.root} holds no dags/; copy that folder from a fresh workspace: lyrics-lm init DIR"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(self.executable), "db", "migrate"]
        done = subprocess.run(command, env={**os.environ, **self.environment()}, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise MachineError(f"Airflow's database in {self.folder} cannot be used: {said[-1]}; move that folder away")
        if (self.folder / PASSWORDS).is_file():
            return None
        password = secrets.token_urlsafe(12)
        durable.write(self.folder / PASSWORDS, json.dumps({USER: password}).encode(), private=True)
        return password

    def commands(self) -> dict[str, list[str]]:
        """Command line by role. Logs are read where they lie, so nobody serves them."""
        airflow = str(self.executable)
        lines = (
            [airflow, "api-server"],
            [
                sys.executable,
                "-m",
                after.__name__,
                f"{self.url}/api/v2/version",
                airflow,
                "scheduler",
                "--skip-serve-logs",
            ],
            [airflow, "dag-processor"],
            [airflow, "triggerer", "--skip-serve-logs"],
        )
        return dict(zip(ROLES, lines, strict=True))
