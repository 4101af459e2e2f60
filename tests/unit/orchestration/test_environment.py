"""Where Airflow is installed, and what is said when it cannot be."""

import subprocess
import sys
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest

from airflows import VENV
from lyrics_lm import processes
from lyrics_lm.errors import MachineError
from lyrics_lm.orchestration import after, environment


def test_one_that_is_named_is_taken_as_it_is(tmp_path, monkeypatch):
    """Nothing is installed beside it; one that is not there is told."""
    monkeypatch.setenv(environment.SHARED, str(VENV))
    assert environment.ensure(tmp_path / "venv", print) == VENV.resolve() / "bin" / "airflow"
    assert not (tmp_path / "venv").exists()
    monkeypatch.setenv(environment.SHARED, str(tmp_path))
    with pytest.raises(MachineError, match=r"holds no bin/airflow"):
        environment.ensure(tmp_path / "venv", print)


def test_what_was_installed_in_part_is_made_anew(tmp_path, monkeypatch):
    """An installation that fails is told in one line and counts for nothing; one that is whole is not repeated."""
    monkeypatch.delenv(environment.SHARED, raising=False)
    pins, said = tmp_path / "pins.txt", []
    monkeypatch.setattr(environment, "PINS", pins)
    pins.write_text(f"nothing @ file://{tmp_path}/away.whl\n")
    for _ in range(2):
        with pytest.raises(MachineError, match=r"could not be installed: ERROR"):
            environment.ensure(tmp_path / "venv", said.append)
    assert len(said) == 2
    pins.write_text("")
    for _ in range(2):
        assert environment.ensure(tmp_path / "venv", said.append).parent.is_dir()
    assert len(said) == 3


def test_the_scheduler_waits_for_the_server():
    """Started before what it needs, it begins once that answers."""
    port = processes.free_port()
    command = [sys.executable, "-m", after.__name__, f"http://127.0.0.1:{port}/", "/bin/echo", "begun"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
        with HTTPServer(("127.0.0.1", port), SimpleHTTPRequestHandler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            assert waiting.communicate(timeout=30)[0] == "begun\n"
            server.shutdown()
