"""kill -9 of a training, of its evaluation, and of songs being added."""

import time
from collections.abc import Callable

import psutil

from lyrics_lm import versioning
from lyrics_lm.corpus import sample
from lyrics_lm.drill.load import Load
from lyrics_lm.drill.loop import Loop, NotRecovered, kill
from lyrics_lm.registry import runs, versions
from lyrics_lm.steps.train import read_progress

_SHORT = {"model__name": "transformer", "model__layers": 1, "model__width": 48, "training__checkpoint_every": 20}
_STEPS, _STEP = 300, 60
_SONGS = 120


def training(loop: Loop, load: Load) -> str:
    """In mid-training: it goes on from its checkpoint, and ends in one version."""

    def under_way() -> bool:
        now = read_progress(loop.home)
        return now is not None and now.step >= _STEP

    return _killed_when(loop, under_way, seed=int(time.time()), what="in mid-training")


def evaluation(loop: Loop, load: Load) -> str:
    """While it is measured on the test songs."""
    return _killed_when(loop, lambda: _stage(loop, "evaluate"), seed=int(time.time()), what="while it was evaluated")


def data_add(loop: Loop, load: Load) -> str:
    """Three times at another moment; done again, every song is there once."""
    file = loop.workspace.parent / "more.csv"
    sample.write(file, songs=_SONGS, seed=int(time.time()) % 10_000)
    before = len(versioning.song_files(loop.workspace))
    for moment in (0.3, 1.5, 2.5):
        adding = loop.begin("data", "add", str(file))
        time.sleep(moment)
        kill([psutil.Process(adding.pid), *psutil.Process(adding.pid).children(recursive=True)])
        adding.wait()
    again = loop.run("data", "add", str(file))
    if again.returncode and "has every song" not in again.stderr:
        raise NotRecovered(f"data add, run again, said: {again.stderr.strip()}")
    files = versioning.song_files(loop.workspace)
    if len(files) != before + 1:
        raise NotRecovered(f"{len(files) - before} files were added, not one")
    versioning.require_songs(loop.workspace)
    return "three times; run again, the songs are there once"


def _killed_when(loop: Loop, seen: Callable[[], bool], *, seed: int, what: str) -> str:
    loop.put_live(loop.supply.worst())
    loop.wait_idle()
    loop.commit(**_SHORT, training__steps=_STEPS, training__seed=seed)
    inputs = versioning.committed(loop.workspace).inputs
    loop.wait(f"a training to be seen {what}", seen, every=0.02)
    kill(loop.processes("training"))
    loop.wait("the training to be finished", lambda: _finished(loop, inputs), 240, every=0.5)
    run = runs.of_inputs(loop.uri, inputs)
    made = [version for version in versions.every(loop.uri) if run and version.run == run.id]
    if len(made) != 1:
        raise NotRecovered(f"the training ended in {len(made)} versions")
    loop.wait_idle()
    return f"{what}; version {made[0].version} came of it"


def _finished(loop: Loop, inputs: str) -> bool:
    run = runs.of_inputs(loop.uri, inputs)
    return run is not None and run.status == "FINISHED" and not loop.processes("training")


def _stage(loop: Loop, name: str) -> bool:
    for process in loop.processes("training"):
        try:
            if process.cmdline()[-2:] == ["step", name]:
                return True
        except psutil.Error:
            continue
    return False
