"""What the eyes of Airflow see, run by Airflow's Python, where nothing of ours can be imported."""

import base64
from pathlib import Path

import pytest

from airflows import ours, python
from lyrics_lm import connection
from lyrics_lm.connection import Connection, Login

DAGS = Path(__file__).parents[3] / "src" / "lyrics_lm" / "workspace" / "template" / "dags"
WHERE = """
import json, pathlib, sys
import lyrics_lm_events
print(json.dumps(lyrics_lm_events._server(pathlib.Path(sys.argv[1]))))
"""
PENDING = """
import json
from lyrics_lm_events import _is_pending
def version(**tags):
    return {"tags": [{"key": f"lyrics_lm.{name}", "value": value} for name, value in tags.items()]}
print(json.dumps([_is_pending(version(**tags)) for tags in (
    {}, {"verdict": "rejected"}, {"verdict": "passed"}, {"verdict": "passed", "delivered": "d"},
)]))
"""


@pytest.fixture
def airflow(tmp_path, monkeypatch):
    (tmp_path / "dags").symlink_to(DAGS)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return ours(tmp_path)


def test_the_registry_is_the_one_that_lyrics_lm_would_ask(airflow, monkeypatch):
    """The embedded server, else the one that `connect` keeps with its login, else the environment's."""
    home = airflow.home
    (home / "mlflow").mkdir(parents=True)
    (home / "mlflow" / "server.url").write_text("http://127.0.0.1:1")
    assert python(airflow, WHERE, str(home)) == ["http://127.0.0.1:1", {}]
    connection.write(home, Connection("https://team/ann/songs.mlflow", None, Login("ann", "secret")))
    url, headers = python(airflow, WHERE, str(home))
    assert url == "https://team/ann/songs.mlflow"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"ann:secret"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert python(airflow, WHERE, str(home)) == ["http://mlflow:5000", {}]


def test_what_waits_is_what_the_release_loop_would_take(airflow):
    """A version without a verdict, or one that passed and was not delivered."""
    assert python(airflow, PENDING) == [True, False, True, False]
