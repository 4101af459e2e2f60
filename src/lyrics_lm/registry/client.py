"""How MLflow is asked: one client, its failures told in one line, its output kept off the screen."""

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lyrics_lm.errors import RegistryError
from lyrics_lm.registry.server import ENVIRONMENT

for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

# MLflow would call the user by the name of the login, which for DagsHub is the token.
_USER = os.environ.get("LOGNAME") or os.environ.get("USER") or "lyrics-lm"
os.environ.setdefault("MLFLOW_RUN_CONTEXT", json.dumps({"mlflow.user": _USER}))

import mlflow  # noqa: E402  # reads the environment above at import
import requests  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

MODEL = "lyrics-lm"
TRAINING = "training"
DEPLOYMENTS = "deployments"

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"mlflow.*")


@contextmanager
def asking(uri: str) -> Iterator[mlflow.MlflowClient]:
    """A client of the server at `uri`; what goes wrong inside becomes a `RegistryError`."""
    _aim(uri)
    try:
        yield mlflow.MlflowClient(uri)
    except MlflowException as error:
        if error.error_code == "PERMISSION_DENIED":
            raise RegistryError(f"MLflow at {uri} lets this token not write; ask the owner for permission") from error
        reason = " ".join(str(error).split())[:300]
        raise RegistryError(f"MLflow at {uri} refused: {reason}") from error
    except requests.RequestException as error:
        raise RegistryError(
            f"MLflow at {uri} does not answer ({type(error).__name__}); start it and run again"
        ) from error


def _aim(uri: str) -> None:
    """Point MLflow at `uri` in this process. It would tell every child process too, by the environment,
    and that would look like a server that a person has named."""
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def experiment(client: mlflow.MlflowClient, name: str) -> str:
    """The id of the experiment of that name, made where there is none."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:
        found = client.get_experiment_by_name(name)  # another process made it in between
        if found is None:
            raise
        return str(found.experiment_id)
