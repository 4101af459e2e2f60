"""Making room in the embedded registry: versions and training runs that nobody needs, with their files."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from lyrics_lm.errors import RegistryError
from lyrics_lm.registry.client import MODEL, TRAINING, asking, experiment
from lyrics_lm.registry.runs import INPUTS
from lyrics_lm.registry.server import ENVIRONMENT

_GONE = "lyrics_lm.gone"  # on what is to go, from before it is deleted: a killed cleaning is taken up by it


@dataclass(frozen=True)
class Spent:
    """A training run that has ended: the inputs it answers for, and the bytes of its files and its model's."""

    run: str
    inputs: str
    size: int


def spent(uri: str, home: Path, kept: Collection[str], inputs: Collection[str]) -> list[Spent]:
    """Runs that have ended, beside those of the `kept` run ids and those that answer for these `inputs`; what a
    killed cleaning left is among them."""
    with asking(uri) as client:
        where = [experiment(client, TRAINING)]
        found = [
            *client.search_runs(where, "attributes.status != 'RUNNING'", max_results=10_000),
            *client.search_runs(where, f"tags.`{_GONE}` = '1'", ViewType.DELETED_ONLY, max_results=10_000),
        ]
        return [
            Spent(run.info.run_id, run.data.tags[INPUTS], _size(home, run))
            for run in found
            if INPUTS in run.data.tags and run.data.tags[INPUTS] not in inputs and run.info.run_id not in kept
        ]


def remove(uri: str, home: Path, runs: Collection[str]) -> None:
    """Delete these runs with their versions and models, and their files. May be killed and done again.

    Raises `RegistryError` with MLflow's own last line when its cleaning fails.
    """
    if not runs:
        return
    models: set[str] = set()
    with asking(uri) as client:
        for run in runs:
            with contextlib.suppress(MlflowException):  # deleted already, by one that was killed
                client.set_tag(run, _GONE, "1")
            for version in client.search_model_versions(f"name = '{MODEL}' and run_id = '{run}'"):
                client.delete_model_version(MODEL, version.version)
            for model in _models(client.get_run(run)):
                models.add(model)
                with contextlib.suppress(MlflowException):
                    client.delete_logged_model(model)
            with contextlib.suppress(MlflowException):
                client.delete_run(run)
    _purge(uri, home, runs, models)


def _purge(uri: str, home: Path, runs: Collection[str], models: Collection[str]) -> None:
    """MLflow's own `gc`, on exactly these."""
    folder = home / "mlflow"
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--run-ids", ",".join(runs)]
    if models:
        command += ["--logged-model-ids", ",".join(models)]
    environment = {**os.environ, **ENVIRONMENT, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise RegistryError(f"mlflow gc failed: {last}; run lyrics-lm gc again")


def _models(run: mlflow.entities.Run) -> list[str]:
    outputs = run.outputs.model_outputs if run.outputs else []
    return [output.model_id for output in outputs]


def _size(home: Path, run: mlflow.entities.Run) -> int:
    place = home / "mlflow" / "artifacts" / run.info.experiment_id
    folders = [place / run.info.run_id, *(place / "models" / model for model in _models(run))]
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
