"""Any version can be made again from what its run kept, or it is said what stands in the way."""

import json
from dataclasses import replace

import pytest

from bundles import bigram_bundle
from lyrics_lm import bundle, params
from lyrics_lm.registry import server
from workspaces import cli, git, make_workspace, set_params


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A workspace with a version from edits that were never committed, a file unknown to Git among them."""
    root = make_workspace(tmp_path_factory.mktemp("shop") / "mine", songs=150, **{"training.steps": 30})
    with server.tracking(params.load(root)):
        text = (root / "models" / "conv.py").read_text().replace("class Conv", "class Own")
        (root / "models" / "own.py").write_text(text)
        set_params(root, {"model.name": "models/own.py:Own", "model.args": {"layers": 2}})
        cli(root, "train")
        yield root


def test_a_version_of_uncommitted_edits_is_made_again_identically(shop):
    """Bit for bit, after the edits are gone from the folder; and the folder stays as it is."""
    (shop / "models" / "own.py").rename(shop.parent / "own.py")
    git(shop, "checkout", "-q", "params.yaml")
    before = git(shop, "status", "--porcelain")
    replayed = json.loads(cli(shop, "replay", "1", "--json").stdout)
    assert replayed["difference"] is None
    assert replayed["digest"] == replayed["rebuilt"]
    assert git(shop, "status", "--porcelain") == before
    assert len(git(shop, "worktree", "list").splitlines()) == 1


def test_what_differs_first_is_said(shop, tmp_path):
    """A bundle that claims a better score than its commit gives: what it claims, what is so, and exit code 1."""
    set_params(shop, {"model.name": "bigram"})
    git(shop, "commit", "-qam", "count")
    cli(shop, "train")
    made = bundle.read(shop / "build" / "bundle")
    better = replace(made.manifest, metrics=replace(made.manifest.metrics, bits_per_char=0.5))
    sources = {name: made.path / name for name in made.manifest.files}
    forged = bundle.write(tmp_path / "forged", sources, better)
    number = json.loads(cli(shop, "register", str(forged.path), "--json").stdout)["version"]
    replayed = cli(shop, "replay", str(number), check=False)
    assert replayed.returncode == 1
    assert f"version {number} differs, first in metrics: Metrics(bits_per_char=0.5" in replayed.stdout


def test_a_version_from_elsewhere_cannot_be_replayed(shop, tmp_path):
    """It names no commit: one line."""
    number = json.loads(cli(shop, "register", str(bigram_bundle(tmp_path / "b").path), "--json").stdout)["version"]
    refused = cli(shop, "replay", str(number), check=False)
    assert refused.returncode == 1
    assert "names no commit" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
