"""A new version in the registry is judged, packaged, tried and put live; one that fails a gate stops, and says why."""

from datetime import UTC, datetime

from airflow.sdk import DAG
from lyrics_lm_assets import REGISTRY, when
from lyrics_lm_tasks import SERVING, step

with DAG(
    "release",
    description=__doc__,
    schedule=when(REGISTRY, "*/15 * * * *"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["lyrics-lm"],
):
    # Where a task may be tried again, the registry or a machine may have been away: no model is better at a second try.
    fetch_new_model = step("fetch_new_model", queue=SERVING, retries=2)
    branch_on_new_model = step("branch_on_new_model", given="fetch_new_model")
    select_model = step("select_model", given="branch_on_new_model", queue=SERVING, retries=2)
    import_model = step("import_model", given="select_model", retries=2)
    build_bento = step("build_bento", given="import_model", retries=1)
    validate_bento = step("validate_bento", given="build_bento", retries=2)
    deploy = step("deploy", given="validate_bento", queue=SERVING, retries=2)

    fetch_new_model >> branch_on_new_model >> select_model >> import_model >> build_bento >> validate_bento >> deploy
