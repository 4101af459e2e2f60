import os
import subprocess
import sys

from lyrics_lm.serving.metrics import count_in


def test_what_a_dead_worker_was_busy_with_is_forgotten(tmp_path, monkeypatch):
    """Its part of the batch and the queue goes, or they would look busy for ever; what it had counted stays."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "elsewhere")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"{kind}_{pid}.db" for kind in ("gauge_livesum", "counter") for pid in (ended.pid, os.getpid())]
    for name in names:
        (tmp_path / name).touch()
    count_in(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {*names} - {f"gauge_livesum_{ended.pid}.db"}
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path)
