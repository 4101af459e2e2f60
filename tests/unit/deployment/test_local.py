import os
import subprocess
import sys
import threading
import time

import pytest

from lyrics_lm import rollout
from lyrics_lm.deployment.local import Local
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import LiveVersion, Observed, Verdict

VERSION = LiveVersion(1, "d" * 64, "tiny", "bigram", 3.0, "bento:1", "/nowhere")
VERDICT = Verdict("d", None, 0.0, ())


@pytest.fixture
def workers(tmp_path):
    """Two processes that serve that home."""
    idle = [sys.executable, "-c", "import time; time.sleep(60)"]
    both = [subprocess.Popen(idle, env={**os.environ, rollout.HOME: str(tmp_path)}) for _ in range(2)]
    yield both
    for process in both:
        process.kill()
        process.wait()


def report(home, pid, deployment, error=None):
    rollout.observe(home, "local", Observed(deployment, pid, time.time(), error))


def later(home, pid, error=None):
    """Report, a moment after something was deployed, what that process made of it."""

    def wait():
        while (current := rollout.read(home, "local").current) is None:
            time.sleep(0.01)
        time.sleep(0.3)
        report(home, pid, current.id, error)

    threading.Thread(target=wait).start()


def test_without_a_service_a_deployment_stands_as_a_wish(tmp_path):
    """Whoever starts later takes it up."""
    deployment = Local(tmp_path).deploy(VERSION, "better", VERDICT)
    assert Local(tmp_path).describe().current == deployment


def test_a_deployment_is_done_when_every_process_took_it_up(tmp_path, workers):
    """Of several workers, the last one counts."""
    for worker in workers:
        report(tmp_path, worker.pid, None)
    later(tmp_path, workers[0].pid)
    later(tmp_path, workers[1].pid)
    began = time.monotonic()
    deployment = Local(tmp_path).deploy(VERSION, "better", VERDICT)
    assert time.monotonic() - began > 0.25
    assert {seen.deployment for seen in rollout.observed(tmp_path, "local")} == {deployment.id}


def test_a_process_that_ended_is_not_waited_for(tmp_path, workers):
    """Nor one that has its number since."""
    ended, _ = workers
    report(tmp_path, ended.pid, None)
    ended.kill()
    ended.wait()
    report(tmp_path, os.getpid(), None)
    Local(tmp_path).deploy(VERSION, "better", VERDICT)


def test_one_process_that_cannot_load_it_takes_the_deployment_back(tmp_path, workers):
    """The reason is told, and the rollout is what it was."""
    for worker in workers:
        report(tmp_path, worker.pid, None)
    later(tmp_path, workers[0].pid)
    later(tmp_path, workers[1].pid, "the known answer differs")
    with pytest.raises(DeliveryError, match="keeps its old version: the known answer differs"):
        Local(tmp_path).deploy(VERSION, "better", VERDICT)
    assert rollout.read(tmp_path, "local").current is None
