"""A drift of traffic that is proved is answered once: by a version turned down before, by new songs, or in words."""

from datetime import UTC, datetime

from airflow.sdk import DAG
from lyrics_lm_assets import DRIFT, when
from lyrics_lm_tasks import SERVING, step

with DAG(
    "watch_drift",
    description=__doc__,
    schedule=when(DRIFT, "7 * * * *"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["lyrics-lm"],
):
    drift_alarm = step("drift_alarm", queue=SERVING, retries=1)
    drift_answer = step("drift_answer", given="drift_alarm", queue=SERVING, retries=1)

    drift_alarm >> drift_answer
