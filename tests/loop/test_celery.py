"""Release over several machines: CeleryExecutor with Redis and PostgreSQL, two workers that share no folder of ours.

Run by deploy/airflow/prove.sh, which installs what it needs and names it in LYRICS_LM_CELERY.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lyrics_lm import params, processes, rollout
from lyrics_lm.orchestration.airflow import Airflow
from lyrics_lm.registry import server, versions
from workspaces import cli, make_workspace, run, wait_for

VENV = Path(os.environ.get("LYRICS_LM_CELERY", ""))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif("LYRICS_LM_CELERY" not in os.environ, reason="run deploy/airflow/prove.sh"),
]


@contextlib.contextmanager
def running(folder, name, command, environment=None, user=None):
    """A process of its own session, its output in `folder`."""
    with open(folder / f"{name}.log", "wb") as log:
        told = {**os.environ, **(environment or {})}
        process = subprocess.Popen(
            command, env=told, stdout=log, stderr=log, cwd=folder, start_new_session=True, user=user
        )
    try:
        yield process
    finally:
        processes.stop(process.pid)
        process.wait()


@contextlib.contextmanager
def postgres(folder):
    """A PostgreSQL of our own on loopback; its address. It refuses to run as root."""
    bin_ = max(Path("/usr/lib/postgresql").glob("*/bin"))
    user = "postgres" if os.geteuid() == 0 else None
    data, port = folder / "postgres", processes.free_port()
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user)
        for parent in (folder, *folder.parents[:-2]):
            parent.chmod(parent.stat().st_mode | 0o011)
    run([bin_ / "initdb", "-D", data, "-U", "airflow", "-A", "trust"], user=user, cwd=data)
    command = [bin_ / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", data]
    with running(folder, "postgres", command, user=user):
        ask = [bin_ / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow"]
        wait_for(lambda: subprocess.run(ask, capture_output=True).returncode == 0, seconds=30)
        yield f"airflow@127.0.0.1:{port}/airflow"


@contextlib.contextmanager
def redis(folder):
    """A Redis of our own on loopback; its address for Celery."""
    port = processes.free_port()
    with running(folder, "redis", ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def cluster(tmp_path):
    """A bundle registered by a colleague, and an Airflow whose workers share PostgreSQL, Redis and MLflow alone."""
    root = make_workspace(tmp_path / "mine", **{"model.name": "bigram"})
    hub = replace(params.load(root), home=tmp_path / "hub")
    airflow = Airflow(VENV / "bin" / "airflow", root, hub.home, processes.free_port())
    with postgres(tmp_path) as database, redis(tmp_path) as broker, server.tracking(hub) as uri:
        shared = {
            **airflow.environment(),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "LYRICS_LM_SERVING_QUEUE": "serving",
            "MLFLOW_TRACKING_URI": uri,
        }

        @contextlib.contextmanager
        def machine(name, commands):
            """Processes that share a home, which no other machine sees."""
            home = tmp_path / name
            home.mkdir(exist_ok=True)
            told = {**shared, "LYRICS_LM_HOME": str(home), "AIRFLOW_HOME": str(home / "airflow")}
            with contextlib.ExitStack() as stack:
                for role, command in commands.items():
                    stack.enter_context(running(home, role, command, told))
                yield home

        executable = str(airflow.executable)
        run([executable, "db", "migrate"], env={**os.environ, **shared})
        worker = [executable, "celery", "worker", "--concurrency", "1", "--skip-serve-logs", "--queues"]
        with (
            machine("hub", airflow.commands()),
            machine("packing", {"worker": [*worker, "default"]}) as packing,
            machine("serving", {"worker": [*worker, "serving"]}) as serving,
        ):
            colleague = {"MLFLOW_TRACKING_URI": uri, "LYRICS_LM_HOME": str(tmp_path / "colleague")}
            cli(root, "train", env={**os.environ, **colleague})
            registered = versions.get(uri, 1).created
            yield database, packing, serving, registered


def test_two_workers_deliver_a_model(cluster):
    """One release runs on two workers with homes of their own; it goes live where the serving queue is."""
    database, packing, serving, registered = cluster
    live = wait_for(lambda: rollout.read(serving, "local").current, seconds=400, every=1)
    queues = wait_for(lambda: ran(database), seconds=60)
    print(f"\nregistered -> live on two workers after {live.time - registered:.1f} s")
    assert {name for name, queue in queues.items() if queue == "serving"} >= {
        "fetch_new_model",
        "select_model",
        "deploy",
    }
    assert {name for name, queue in queues.items() if queue == "default"} >= {
        "import_model",
        "build_bento",
        "validate_bento",
    }
    assert rollout.read(packing, "local").current is None
    assert list((packing / "bentoml" / "bentos" / "lyrics-lm").iterdir())


def ran(database):
    """Queue by task of the release that succeeded, once there is one."""
    query = (
        "select task_id || ' ' || queue from task_instance join dag_run using (dag_id, run_id) "
        "where dag_id = 'release' and dag_run.state = 'success' and task_instance.state = 'success'"
    )
    said = subprocess.run(
        ["psql", f"postgresql://{database}", "-Atc", query], capture_output=True, text=True, check=True
    )
    queues = dict(line.split() for line in said.stdout.splitlines())
    return queues if "deploy" in queues else None
