"""A disk that is full, files that are torn, and a clock that jumps."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from lyrics_lm.drill.fault import NotHere
from lyrics_lm.drill.load import Load
from lyrics_lm.drill.loop import Loop, NotRecovered, kill

_FULL_SECONDS = 8.0
_ROOM = 400  # megabytes of the small disk beyond what the home holds
_DAY = 86_400
_JUMPS = (_DAY, -3 * _DAY, 3600, 0)
_CLOCK = "LYRICS_LM_DRILL_CLOCK"
_TORN = (
    "rollouts/local.json", "rollouts/local.recorded", "rollouts/local.observed/*.json", "progress.json",
    "drift/*.json", "trials/*.json", "cache/*.json", "traffic/*.parquet", "bentoml/built/*", "verbatim/*",
    "bentoml/models/lyrics-lm/*/bundle/contract.json", "bentoml/models/lyrics-lm/*/bundle/model.onnx",
)  # fmt: skip
_VERBS = (("status",), ("why",), ("drift",), ("generate", "love", "--max-tokens", "5"))


def disk_full(loop: Loop, load: Load) -> str:
    """The home lies on a small disk, which is filled while a version waits."""
    with _small_disk(loop):
        loop.put_live(loop.supply.worst())
        loop.wait_idle()
        ballast, began = loop.home / "ballast", time.monotonic()
        _fill(ballast)
        made = loop.supply.better()
        with contextlib.suppress(Exception):  # whatever refuses it first: it is registered once there is room
            loop.register(made)
        time.sleep(_FULL_SECONDS)
        answers = load.between(began, time.monotonic())
        ballast.unlink()
        failures = [answer.error for answer in answers if answer.error]
        if failures or not answers:
            raise NotRecovered(f"full, {len(failures)} of {len(answers)} requests failed: {failures[:1]}")
        loop.register(made)
        loop.wait_live(made.digest)
        loop.wait_idle()
    return f"{len(answers)} requests while it was full and a version came; all others while the home was moved"


def torn_files(loop: Loop, load: Load) -> str:
    """The second half of each kind of file is lost, one after the other: what serves goes on, every verb answers
    or says what is wrong, and with the file back all is well."""
    loop.put_live(loop.supply.worst())
    loop.wait_idle()
    torn = 0
    for pattern in _TORN:
        for file in sorted(loop.home.glob(pattern), key=lambda path: path.stat().st_mtime)[-1:]:
            whole = file.read_bytes()
            _put(file, whole[: len(whole) // 2])
            torn += 1
            try:
                kill(loop.processes("controller"))
                _ask_all(loop, file)
            finally:
                _put(file, whole)
    loop.wait("the controller to be back", lambda: loop.processes("controller"))
    made = loop.supply.better()
    loop.register(made)
    loop.wait_live(made.digest)
    return f"{torn} kinds of file, one by one"


def clock_jumps(loop: Loop, load: Load) -> str:
    """The wall clock jumps a day ahead, days back, and to the truth, while versions come."""
    loop.stop()
    clock = loop.workspace.parent / "clock"
    clock.write_text("0")
    with resources.as_file(resources.files("lyrics_lm.drill") / "clock") as folder:
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        loop.start({"PYTHONPATH": path, _CLOCK: str(clock)})
        try:
            loop.wait("MLflow to answer", loop.mlflow_answers)
            loop.put_live(loop.supply.worst())
            for jump in _JUMPS:
                clock.write_text(str(jump))
                made = loop.supply.better()
                loop.register(made)
                loop.wait_live(made.digest)
        finally:
            loop.stop()
    loop.start()
    loop.wait("the service to answer", loop.live)
    loop.wait("MLflow to answer", loop.mlflow_answers)
    return "a day ahead, three days back, an hour ahead, and right again; a version delivered each time"


@contextlib.contextmanager
def _small_disk(loop: Loop) -> Iterator[None]:
    """The home, moved to a small disk of its own for as long as the block lasts."""
    size = sum(path.stat().st_size for path in loop.home.rglob("*") if path.is_file()) // 2**20 + _ROOM
    kept = loop.home.with_name("kept")
    loop.stop()
    loop.home.rename(kept)
    loop.home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(loop.home)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    try:
        if mounted.returncode:
            raise NotHere(f"no small disk can be mounted: {mounted.stderr.strip()}")
        shutil.copytree(kept, loop.home, dirs_exist_ok=True, symlinks=True)
        loop.start()
        loop.wait("MLflow to answer", loop.mlflow_answers)
        yield
        loop.stop()
        shutil.rmtree(kept)
        shutil.copytree(loop.home, kept, symlinks=True)
    finally:
        loop.stop()
        if not mounted.returncode:
            subprocess.run(["umount", str(loop.home)], check=True)
        loop.home.rmdir()
        kept.rename(loop.home)
        loop.start()
        loop.wait("the service to answer", loop.live)
        loop.wait("MLflow to answer", loop.mlflow_answers)


def _fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))


def _put(file: Path, content: bytes) -> None:
    """As after a crash: another file of that name, so that whoever has the old one open keeps it."""
    draft = file.with_name(f".{file.name}.torn")
    draft.write_bytes(content)
    draft.rename(file)


def _ask_all(loop: Loop, file: Path) -> None:
    for verb in _VERBS:
        done = loop.run(*verb)
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            last = done.stderr.strip().splitlines()[-1:]
            raise NotRecovered(f"with {file.name} torn, {verb[0]} ends with {done.returncode}: {last}")
    if loop.live() is None:
        raise NotRecovered(f"with {file.name} torn, nothing serves")
