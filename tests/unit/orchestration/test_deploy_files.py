"""The files in deploy/airflow: what can be checked of them without a Docker engine or a cluster."""

import re
import sys
from pathlib import Path

import yaml

from airflows import ours, python
from lyrics_lm.packaging import bentos
from workspaces import run

ROOT = Path(__file__).parents[3]
FILES = ROOT / "deploy" / "airflow"
COMPOSE = ROOT / "deploy" / "compose.yaml"
KNOWN = """
import json, sys
from airflow.configuration import conf
print(json.dumps([name for name in sys.argv[1:] if not conf.has_option(*name.split("/"))]))
"""


def test_the_compose_file_is_one():
    """It keeps to Compose's schema; every service but the one that hands out folders runs as the caller."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run([*check, str(COMPOSE)])
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    own = [service for service in services.values() if service["image"] == "lyrics-lm-airflow"]
    assert sum(service["user"] != "${UID:-1000}:${GID:-1000}" for service in own) == 1
    assert bentos.SERVICE in services["api"]["entrypoint"]


def test_airflow_knows_every_setting(tmp_path):
    """A setting with a slip in its name would be ignored without a word."""
    values = yaml.safe_load((FILES / "values.yaml").read_text())
    texts = [file.read_text() for file in (COMPOSE, FILES / "Dockerfile")]
    told = " ".join([*texts, *ours(tmp_path).environment()])
    pairs = set(re.findall(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)\b", told))
    named = {f"{section}/{option}".lower() for section, option in pairs}
    named |= {f"{section}/{option}" for section, options in values["config"].items() for option in options}
    celery = {name for name in named if name.startswith("celery/")}  # known where its provider is installed
    assert celery == {"celery/broker_url", "celery/result_backend"}
    assert python(ours(tmp_path), KNOWN, *sorted(named - celery)) == []
    assert len(named) > 15


def test_the_script_that_proves_celery_parses():
    """And the pins it installs are those of Airflow itself, with the executors' beside them, none twice."""
    run(["bash", "-n", str(FILES / "prove.sh")])
    pins = [ROOT / "src" / "lyrics_lm" / "orchestration" / "airflow.txt", FILES / "executors.txt"]
    names = [line.split("==")[0].lower() for file in pins for line in file.read_text().splitlines() if "==" in line]
    assert len(names) == len(set(names))
