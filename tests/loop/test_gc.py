"""Making room: what nobody needs goes, and everything that a person can still ask for works as before."""

import hashlib
import json
import subprocess

import pytest

from lyrics_lm import bundle, rollout, versioning
from lyrics_lm.errors import DeliveryError
from lyrics_lm.packaging import bentos
from lyrics_lm.registry import server, versions
from lyrics_lm.steps import due
from lyrics_lm.steps.deliver import alone, deliver
from lyrics_lm.steps.undo import undo
from shops import Shop
from workspaces import LYRICS_LM, cli, git, wait_for

KEEP = 2


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop that has delivered six versions, turned one down, and has one waiting."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    cli(shop.root, "train", "--set", "model.name=bigram")
    git(shop.root, "commit", "-qam", "count")
    with server.tracking(shop.settings) as shop.uri:
        deliver(shop.settings, shop.uri)
        shop.install()
        shop.delivered = []
        for _ in range(4):
            shop.delivered.append(shop.register())
            deliver(shop.settings, shop.uri)
        shop.rejected = shop.register(worse=True)
        deliver(shop.settings, shop.uri)
        shop.waiting = shop.register()
        yield shop


def test_a_dry_run_tells_what_would_go_and_touches_nothing(shop):
    """Versions that serve nowhere and that no undo brings back, with their Bentos; and why the others stay. While a
    delivery runs, it tells too."""
    before = _digests(shop.home)
    with alone(shop.settings):
        told = json.loads(_gc(shop, "--dry-run").stdout)
        assert "another delivery" in cli(shop.root, "gc", check=False).stderr
    assert _digests(shop.home) == before
    gone = {(room["kind"], room["name"]) for room in told["gone"]}
    assert {("version", str(number)) for number in (2, shop.delivered[0])} <= gone
    live = rollout.read(shop.home, "local").live.version
    assert told["kept"][str(live)] == "it serves at local"
    assert told["kept"][str(shop.waiting)] == "it waits"
    assert told["kept"][str(shop.rejected)].startswith("it was tried against the champion")
    assert sum(room["size"] for room in told["gone"]) > 0
    assert ("version", "1") not in gone  # of the run for what is committed: it would be trained again


def test_making_room_may_be_killed_and_done_again(shop):
    """kill -9 as soon as something is gone; the next pass ends with exactly what was announced gone."""
    announced = json.loads(_gc(shop, "--dry-run").stdout)
    store = bentos.folder(shop.home) / "bentos" / "lyrics-lm"
    count = len(list(store.iterdir()))
    process = subprocess.Popen([*LYRICS_LM, "-C", str(shop.root), "gc", "--keep", str(KEEP)])
    wait_for(lambda: len(list(store.iterdir())) < count or process.poll() is not None, every=0.001)
    process.kill()
    process.wait()
    _gc(shop)
    left = {version.version for version in versions.every(shop.uri)}
    gone = {int(room["name"]) for room in announced["gone"] if room["kind"] == "version"}
    assert not left & gone
    assert {shop.waiting, shop.rejected, 1, *map(int, announced["kept"])} <= left
    assert json.loads(_gc(shop, "--dry-run").stdout)["gone"] == []


def test_afterwards_all_that_stays_works(shop):
    """`why` leads to the evidence, as many undos as were kept go back and no further, what waits is delivered, and
    nothing is trained again."""
    chain = json.loads(cli(shop.root, "why", "--json").stdout)
    assert chain["verdict"]["gates"]
    for _ in range(KEEP):
        digest = undo(shop.settings, "local").versions[0].digest
        assert bundle.read(bentos.stored(shop.home, digest).path).digest == digest
    with pytest.raises(DeliveryError, match="nothing to undo"):
        undo(shop.settings, "local")
    deliver(shop.settings, shop.uri)
    assert rollout.read(shop.home, "local").live.version == shop.waiting
    snapshot = versioning.committed(shop.root)
    assert not isinstance(due.find(shop.uri, snapshot, bigram_tried=True), due.Due)


def _gc(shop, *options):
    return cli(shop.root, "gc", "--keep", str(KEEP), "--json", *options)


def _digests(home):
    """Of every file, but for logs, locks and the database, which every look touches."""
    files = (path for path in home.rglob("*") if path.is_file() and "logs" not in path.parts)
    kept = (path for path in files if "mlflow.db" not in path.name and path.suffix != ".lock")
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}
