"""Training runs: one for each set of inputs that was trained, with its losses, scores and files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from lyrics_lm.registry.client import TRAINING, asking, experiment

INPUTS = "lyrics_lm.inputs"
_REASON = "lyrics_lm.reason"
_SWEEP = "lyrics_lm.sweep"
_MAX_BATCH = 500
_MAX_PARAM = 6000


@dataclass(frozen=True)
class Run:
    """A training run as the registry knows it."""

    id: str
    name: str
    status: str
    started: float
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    reason: str | None


def start(uri: str, name: str, inputs: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Open a run for these inputs; runs of the same inputs that were cut off are closed as killed."""
    with asking(uri) as client:
        where = experiment(client, TRAINING)
        for cut in client.search_runs([where], f"tags.`{INPUTS}` = '{inputs}' and attributes.status = 'RUNNING'"):
            client.set_terminated(cut.info.run_id, "KILLED")
        run = client.create_run(where, run_name=name, tags={**tags, INPUTS: inputs})
        entries = [Param(key, str(value)[:_MAX_PARAM]) for key, value in params.items()]
        client.log_batch(run.info.run_id, params=entries)
        return str(run.info.run_id)


def start_child(uri: str, sweep: str, name: str, params: Mapping[str, Any]) -> str:
    """Open a run under the one that stands for the sweep from that commit. It answers for no inputs (`of_inputs`)."""
    with asking(uri) as client:
        where = experiment(client, TRAINING)
        found = client.search_runs([where], f"tags.`{_SWEEP}` = '{sweep}'", max_results=1)
        if found:
            parent = found[0].info.run_id
        else:
            parent = client.create_run(where, run_name=f"sweep from {sweep[:8]}", tags={_SWEEP: sweep}).info.run_id
            client.set_terminated(parent)
        run = client.create_run(where, run_name=name, tags={MLFLOW_PARENT_RUN_ID: parent})
        client.log_batch(run.info.run_id, params=[Param(key, str(value)[:_MAX_PARAM]) for key, value in params.items()])
        return str(run.info.run_id)


def log_losses(uri: str, run: str, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
    """Log (step, {name: value}) rows, in batches."""
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, step) for step, values in rows for name, value in values.items()]
    with asking(uri) as client:
        for start in range(0, len(metrics), _MAX_BATCH):
            client.log_batch(run, metrics=metrics[start : start + _MAX_BATCH])


def log_text(uri: str, run: str, name: str, text: str) -> None:
    """Keep a text with the run, as a file of that name."""
    with asking(uri) as client:
        client.log_text(run, text, name)


def read_text(uri: str, run: str, name: str) -> str | None:
    """The text that a run keeps under that name; None where it keeps none."""
    with asking(uri) as client:
        if name not in (file.path for file in client.list_artifacts(run)):
            return None
        return str(mlflow.artifacts.load_text(f"runs:/{run}/{name}"))


def finish(uri: str, run: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
    """Log final scores and files, and close the run as finished."""
    now = int(time.time() * 1000)
    with asking(uri) as client:
        client.log_batch(run, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])
        for file in files:
            client.log_artifact(run, str(file))
        client.set_terminated(run, "FINISHED")


def fail(uri: str, run: str, reason: str) -> None:
    """Close the run as failed, with the reason."""
    with asking(uri) as client:
        client.log_batch(run, tags=[RunTag(_REASON, reason[:_MAX_PARAM])])
        client.set_terminated(run, "FAILED")


def of_inputs(uri: str, inputs: str) -> Run | None:
    """The finished or failed run of these inputs, if there ever was one."""
    with asking(uri) as client:
        query = f"tags.`{INPUTS}` = '{inputs}' and attributes.status != 'RUNNING' and attributes.status != 'KILLED'"
        found = client.search_runs([experiment(client, TRAINING)], query, max_results=1)
        return _run(found[0]) if found else None


def get(uri: str, run: str) -> Run | None:
    """One run; None when it was deleted or never was."""
    with asking(uri) as client:
        try:
            return _run(client.get_run(run))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def _run(item: mlflow.entities.Run) -> Run:
    return Run(
        id=item.info.run_id,
        name=item.info.run_name or "",
        status=item.info.status,
        started=item.info.start_time / 1000,
        params=dict(item.data.params),
        metrics=dict(item.data.metrics),
        tags=dict(item.data.tags),
        reason=item.data.tags.get(_REASON),
    )
