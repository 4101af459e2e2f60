"""A step of lyrics-lm as a task of Airflow: one line of shell, JSON in and out. Knows no model and no registry.

Airflow has a virtual environment of its own: a task reaches lyrics-lm by the command in `LYRICS_LM`
(default: `lyrics-lm` on the PATH), in the workspace that these DAGs lie in, or the one in `LYRICS_LM_WORKSPACE`,
for the target in `LYRICS_LM_TARGET` (default: `local`). On several machines, tasks that look at what is live, or
change it, go to the queue in `LYRICS_LM_SERVING_QUEUE`, and trainings to that in `LYRICS_LM_TRAINING_QUEUE`.
"""

import json
import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator

WORKSPACE = os.environ.get("LYRICS_LM_WORKSPACE") or str(Path(__file__).resolve().parents[2])
SERVING = os.environ.get("LYRICS_LM_SERVING_QUEUE", "default")
TRAINING = os.environ.get("LYRICS_LM_TRAINING_QUEUE", "default")
NOTHING = 99  # the exit code of a step that had nothing to do: the task is skipped, its reason in the log
_LYRICS_LM = '"${LYRICS_LM:-lyrics-lm}" -C "$WORKSPACE" step --target "${LYRICS_LM_TARGET:-local}"'


def step(task_id: str, name: str = "", *, given: str = "", **how: object) -> BashOperator:
    """The task that runs the step `name` (its own name where none is given) on what the task `given` returned."""
    output = f"{{{{ ti.xcom_pull(task_ids='{given}') | tojson }}}}" if given else ""
    return BashOperator(
        task_id=task_id,
        bash_command=f'{_LYRICS_LM} --skip-code {NOTHING} {name or task_id} <<<"$GIVEN"',
        env={"WORKSPACE": WORKSPACE, "GIVEN": output},
        append_env=True,
        skip_on_exit_code=NOTHING,
        output_processor=json.loads,
        retry_delay=timedelta(seconds=10),
        **how,
    )
