"""The short drill, as a person runs it: what it promises is kept on a real loop under load."""

import hashlib
import json

import pytest

from lyrics_lm.drill.drill import chosen
from workspaces import LYRICS_LM, Up, cli, make_workspace, run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_short_drill_keeps_every_promise(tmp_path):
    """Workers, service, controller and MLflow killed, a delivery killed, clients that vanish, poison, swaps: no more
    fails than is promised, no outage is longer, no deployment is lost or doubled, and the report shows it."""
    page = tmp_path / "drill.html"
    done = run([*LYRICS_LM, "drill", "--short", "--json", "--html", str(page)], check=False, timeout=500)
    report = json.loads(done.stdout[: done.stdout.rindex("}") + 1])
    broken = [one for one in report["outcomes"] if one["wrong"] or one["doubled"] or one["skipped"]]
    assert broken == []
    assert done.returncode == 0, report
    assert [one["fault"] for one in report["outcomes"]] == [fault.name for fault in chosen((), short=True)]
    away = next(one for one in report["outcomes"] if one["fault"] == "control plane away")
    assert away["window"]["failed"] == 0
    assert away["window"]["requests"] > 1000
    written = page.read_text()
    assert "<svg" in written
    assert all(one["fault"] in written for one in report["outcomes"])


def test_a_drill_here_leaves_what_is_here_alone(tmp_path):
    """It works on a copy, with the version that is live here: of the workspace and its home, no file changes."""
    workspace = make_workspace(tmp_path / "mine", **{"model.name": "bigram"})
    up = Up(workspace)
    try:
        live = up.wait_live()
        up.wait_said("is live after")
        up.interrupt()
        before = _digests(workspace)
        done = cli(workspace, "drill", "--here", "--json", "kill the controller", check=False)
        report = json.loads(done.stdout)
        assert done.returncode == 0, report
        assert report["loop"] == f"a copy of {workspace}"
        assert report["outcomes"][0]["window"]["requests"] > 10
        assert live["version"] == 1
        assert _digests(workspace) == before
    finally:
        up.end()


def test_a_soak_measures_what_grows(tmp_path):
    """Half a minute of one: nothing fails, and memory, files, disk and milliseconds are on its page."""
    page = tmp_path / "soak.html"
    done = run([*LYRICS_LM, "soak", "0.6", "--json", "--html", str(page)], check=False)
    seen = json.loads(done.stdout)
    assert done.returncode == 0, seen
    assert (seen["window"]["failed"], seen["doubled"], seen["wrong"]) == (0, 0, [])
    assert seen["events"]["a better version"] == 1
    assert all(moment["memory"]["service"] > 50 and moment["files"]["service"] > 5 for moment in seen["moments"])
    assert all(name in page.read_text() for name in ("memory of service", "disk of traffic", "<svg"))


def test_an_unknown_fault_is_told(tmp_path):
    """The name that was asked for, and those there are."""
    refused = run([*LYRICS_LM, "drill", "kill everything"], check=False)
    assert refused.returncode == 1
    assert "'kill everything' is no fault; there are: kill a worker, " in refused.stderr


def _digests(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
