"""What `doctor` finds beyond this machine."""

from lyrics_lm import params
from lyrics_lm.registry import server
from lyrics_lm.steps.doctor import doctor
from workspaces import dvc, make_workspace


def shared(root):
    return {item.what: (item.ok, item.remedy) for item in doctor(root, 3000) if item.what.startswith("shared")}


def test_what_machines_must_share_is_checked_where_there_are_several(tmp_path, monkeypatch):
    """One machine shares nothing. Several need a registry, a store and a remote that all of them reach."""
    root = make_workspace(tmp_path / "mine", songs=100)
    assert shared(root) == {}
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    alone = shared(root)
    assert not alone["shared registry"][0]
    assert "MLFLOW_TRACKING_URI" in alone["shared registry"][1]
    assert "lyrics-lm connect" in alone["shared songs"][1]
    with server.tracking(params.load(root)) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        dvc(root, "remote", "add", "--default", "team", "s3://songs/dvc")
        found = shared(root)
    assert found["shared bundles"] == (True, "")
    assert found["shared songs"] == (True, "")
    assert not found["shared registry"][0]
