"""Airflow's own virtual environment: made once, pinned, apart from ours so that neither holds back the other."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lyrics_lm import durable
from lyrics_lm.errors import MachineError

PINS = Path(__file__).with_name("airflow.txt")
SHARED = "LYRICS_LM_AIRFLOW"  # names one that is there already
_MARK = ".installed"

Say = Callable[[str], None]


def ensure(folder: Path, say: Say) -> Path:
    """The `airflow` executable, of the environment in `folder` or of the one that `LYRICS_LM_AIRFLOW` names.

    Made where it is missing, half made or of other pins. Raises `MachineError` when it cannot be.
    """
    if named := os.environ.get(SHARED):
        executable = Path(named).resolve() / "bin" / "airflow"
        if not executable.is_file():
            raise MachineError(
                f"{SHARED} names {named}, which holds no bin/airflow; unset it, or install Airflow there"
            )
        return executable
    wanted = hashlib.sha256(PINS.read_bytes()).hexdigest()
    mark = folder / _MARK
    if not mark.is_file() or mark.read_text() != wanted:
        say(f"installing Airflow into {folder} (once; about 300 MB)")
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
        ours = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
        _run([*ours, "install", "--quiet", "--no-deps", "--requirement", str(PINS)])
        durable.write(mark, wanted.encode())
    return folder / "bin" / "airflow"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["it said nothing"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise MachineError(f"Airflow could not be installed: {reason}; mend that, then run again")
