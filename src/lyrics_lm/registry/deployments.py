"""The record of deployments: each is an MLflow run, whose id the rollout file gave it."""

from collections.abc import Iterator

import mlflow
from mlflow.entities import Param, RunTag

from lyrics_lm.records import Deployment, from_json, to_json
from lyrics_lm.registry.client import DEPLOYMENTS, asking, experiment

_ID = "lyrics_lm.deployment"
_RECORD = "deployment.json"


def record(uri: str, deployment: Deployment) -> None:
    """Write a deployment down; doing so again changes nothing."""
    with asking(uri) as client:
        where = experiment(client, DEPLOYMENTS)
        if client.search_runs([where], f"tags.`{_ID}` = '{deployment.id}' and attributes.status = 'FINISHED'"):
            return
        live = deployment.versions[0]
        run = client.create_run(
            where,
            start_time=int(deployment.time * 1000),
            run_name=f"{deployment.action} version {live.version} at {deployment.target}",
            tags={_ID: deployment.id},
        )
        facts = {
            "action": deployment.action,
            "target": deployment.target,
            "version": live.version,
            "digest": live.digest,
            "replaces": deployment.replaces,
            "restores": deployment.restores,
        }
        client.log_batch(
            run.info.run_id,
            params=[Param(name, str(value)) for name, value in facts.items() if value is not None],
            tags=[RunTag("lyrics_lm.reason", deployment.reason)],
        )
        client.log_text(run.info.run_id, to_json(deployment).decode(), _RECORD)
        client.set_terminated(run.info.run_id, "FINISHED")


def every(uri: str, target: str) -> list[Deployment]:
    """All recorded deployments of a target, newest first."""
    with asking(uri) as client:
        return [_read(run) for run in _finished(client, f"params.target = '{target}' and ")]


def recorded(uri: str) -> set[str]:
    """Ids of all deployments that are on record."""
    with asking(uri) as client:
        return {run.data.tags[_ID] for run in _finished(client) if _ID in run.data.tags}


def _finished(client: mlflow.MlflowClient, which: str = "") -> Iterator[mlflow.entities.Run]:
    """All runs of deployments that were written to their end, newest first, page by page."""
    where, query = [experiment(client, DEPLOYMENTS)], f"{which}attributes.status = 'FINISHED'"
    token: str | None = None
    while True:
        page = client.search_runs(where, query, order_by=["attributes.start_time DESC"], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _read(run: mlflow.entities.Run) -> Deployment:
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{_RECORD}")
    return from_json(text, Deployment)
