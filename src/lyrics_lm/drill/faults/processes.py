"""kill -9 of the processes that make the loop."""

import time

from lyrics_lm.drill.load import Load
from lyrics_lm.drill.loop import Loop, kill

_AWAY_SECONDS = 15.0


def worker(loop: Loop, load: Load) -> str:
    """One of the processes that answer."""
    workers = loop.workers()
    before = {process.pid for process in workers}
    kill(workers[:1])
    loop.wait("the worker to be replaced", lambda: len(_pids(loop) - before) and len(_pids(loop)) == len(before))
    return f"one of {len(workers)} workers"


def service(loop: Loop, load: Load) -> str:
    """The eldest of the service, which minds the workers."""
    eldest, *_ = loop.processes("service")
    before, digest = {process.pid for process in loop.workers()}, loop.live()
    kill([eldest])
    loop.wait("the service to be replaced", lambda: _pids(loop) and not _pids(loop) & before)
    loop.wait("what was live to be live", lambda: loop.live() == digest)
    return "the process that minds the workers"


def controller(loop: Loop, load: Load) -> str:
    """The controller, at rest."""
    kill(loop.processes("controller"))
    loop.wait("the controller to be replaced", lambda: loop.processes("controller"))
    return "at rest"


def mlflow(loop: Loop, load: Load) -> str:
    """MLflow, and all it started."""
    kill(loop.processes("mlflow"))
    loop.wait("MLflow to answer", loop.mlflow_answers)
    return "the server with its children"


def control_plane(loop: Loop, load: Load) -> str:
    """Controller and MLflow, killed again as soon as they are back, for some seconds."""
    end, killed = time.monotonic() + _AWAY_SECONDS, 0
    while time.monotonic() < end:
        found = loop.processes("controller") + loop.processes("mlflow")
        killed += len(found)
        kill(found)
        time.sleep(0.1)
    loop.wait("MLflow to answer", loop.mlflow_answers)
    loop.wait("the controller to be back", lambda: loop.processes("controller"))
    return f"for {_AWAY_SECONDS:.0f} s at {load.rate:.0f} requests a second; {killed} processes killed"


def up(loop: Loop, load: Load) -> str:
    """`up` itself; a person starts it again three seconds later."""
    digest = loop.live()
    loop.kill_up()
    time.sleep(3)
    loop.start()
    loop.wait("what was live to be live", lambda: loop.live() == digest)
    loop.wait("MLflow to answer", loop.mlflow_answers)
    return "started again after 3 s"


def _pids(loop: Loop) -> set[int]:
    """Workers that have taken up what is live."""
    return {process.pid for process in loop.workers()}
