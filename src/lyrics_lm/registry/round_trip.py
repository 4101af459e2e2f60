"""A mark written to a registry and read back: whether we may use it, known before it matters."""

import time

from lyrics_lm.errors import RegistryError
from lyrics_lm.registry.client import TRAINING, asking, experiment

_TAG = "lyrics_lm.connected"


def round_trip(uri: str) -> None:
    """Tag the experiment of training runs with this moment, and read that.

    Raises `RegistryError` when the server refuses, does not answer, or does not keep what it takes.
    """
    moment = str(time.time())
    with asking(uri) as client:
        where = experiment(client, TRAINING)
        client.set_experiment_tag(where, _TAG, moment)
        kept = client.get_experiment(where).tags.get(_TAG)
    if kept != moment:
        raise RegistryError(f"MLflow at {uri} took a tag and did not keep it; check that it is an MLflow server")


def artifact_store(uri: str) -> str:
    """Where the server has clients put files: an address that all reach, or a path on each one's own disk."""
    with asking(uri) as client:
        return str(client.get_experiment(experiment(client, TRAINING)).artifact_location)
