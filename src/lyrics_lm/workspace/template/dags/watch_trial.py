"""A version on trial gets a larger share, is promoted or sent away; one that took over is taken back when it fails."""

from datetime import UTC, datetime

from airflow.sdk import DAG
from lyrics_lm_tasks import SERVING, step

with DAG(
    "watch_trial",
    description=__doc__,
    schedule="* * * * *",  # evidence gathers by itself: there is no event to wait for
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["lyrics-lm"],
):
    step("trial", queue=SERVING, retries=1)
