"""New songs, settings or code in the workspace's last commit are trained and registered; `release` takes it on."""

from datetime import UTC, datetime

from airflow.sdk import DAG
from lyrics_lm_assets import CORPUS, when
from lyrics_lm_tasks import TRAINING, step

with DAG(
    "retrain",
    description=__doc__,
    schedule=when(CORPUS, "*/15 * * * *"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["lyrics-lm"],
):
    prepare = step("prepare", "retrain_prepare", queue=TRAINING, retries=2)
    # A machine that goes away in the middle costs what was done since the last checkpoint.
    train = step("train", "retrain_train", given="prepare", queue=TRAINING, retries=1)
    evaluate = step("evaluate", "retrain_evaluate", given="train", queue=TRAINING, retries=1)
    export = step("export", "retrain_export", given="evaluate", queue=TRAINING, retries=1)
    register = step("register", "retrain_register", given="export", queue=TRAINING, retries=2)

    prepare >> train >> evaluate >> export >> register
