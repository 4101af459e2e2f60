#!/usr/bin/env bash
# Prove the Celery case on this machine (Debian or Ubuntu): install Redis and PostgreSQL from the distribution, Airflow
# with its executors beside ours, and deliver a model through two workers that share no folder of ours.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
if ! command -v redis-server >/dev/null || ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then
  as_root apt-get update -qq
  as_root apt-get install -y -qq redis-server postgresql
fi
venv=.venv-airflow/celery
pins="src/lyrics_lm/orchestration/airflow.txt deploy/airflow/executors.txt"
if [ ! -f $venv/.installed ] || [ deploy/airflow/executors.txt -nt $venv/.installed ]; then
  .venv/bin/python -m venv --clear $venv
  # shellcheck disable=SC2086 # two files
  $venv/bin/pip install --quiet --no-deps $(printf -- '--requirement %s ' $pins)
  touch $venv/.installed
fi
LYRICS_LM_CELERY=$PWD/$venv .venv/bin/python -m pytest tests/loop/test_celery.py --numprocesses=0 -s "$@"
