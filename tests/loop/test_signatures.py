"""Signatures through the loop: who signs, what is turned away, and what the service will not serve."""

import contextlib
import json
import os
import shutil
import subprocess

import httpx
import pytest

import keys
from bundles import bigram_bundle
from lyrics_lm import bundle, params, processes, rollout, signing
from lyrics_lm.bundle import SIGNATURE
from lyrics_lm.packaging import bentos
from lyrics_lm.records import to_json
from lyrics_lm.registry import runs, server, versions
from lyrics_lm.serving import TRUST
from lyrics_lm.signing import Trust
from lyrics_lm.steps.deliver import deliver
from lyrics_lm.steps.release import Candidate, Release
from lyrics_lm.steps.up import _servers
from workspaces import cli, dvc, make_workspace, set_params, wait_for


class Shop:
    """A workspace that takes signed bundles only, and has a key."""

    def __init__(self, folder):
        self.root = make_workspace(folder / "mine")
        self.pair, self.stranger = keys.pair(folder), keys.pair(folder, "stranger")
        shutil.copy(self.pair.trusted, self.root / "own.pub")
        set_params(self.root, {"model.name": "bigram", "signing.trusted": "own.pub"})
        set_params(self.root, {"signing.require_signature": True})

    @property
    def settings(self):
        return params.load(self.root)

    def registered(self, number, folder):
        """The files of a version, as MLflow gives them to anybody."""
        versions.fetch(self.uri, number, folder)
        return bundle.read(versions.locate(folder, number))

    def verdict(self, number):
        return versions.get(self.uri, number).verdict


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop whose first version was trained without a key and the second, of the same files, with one."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    with server.tracking(shop.settings) as shop.uri:
        cli(shop.root, "train")
        deliver(shop.settings, shop.uri)
        assert rollout.read(shop.settings.home, "local").live is None
        set_params(shop.root, {"signing.key": str(shop.pair.key)})
        cli(shop.root, "train")
        deliver(shop.settings, shop.uri)
        yield shop


def test_what_is_not_signed_is_turned_away_with_the_remedy(shop):
    """Before any gate; the reason says what to do."""
    [gate] = shop.verdict(1).gates
    assert (gate.gate, gate.passed, gate.observed) == ("signature", False, "not signed")
    assert "has no signature.sig" in gate.reason
    assert "set signing.key and register it again" in gate.reason


def test_the_same_bundle_comes_again_signed_and_goes_live(shop):
    """The remedy works: training signs, and the signature is among the evidence."""
    assert shop.verdict(1).digest == shop.verdict(2).digest
    assert shop.verdict(2).gates[-1].reason == "signed, as asked"
    assert rollout.read(shop.settings.home, "local").live.version == 2
    again = json.loads(cli(shop.root, "register", str(shop.root / "build/bundle"), "--json").stdout)
    assert again == {"version": 2, "digest": shop.verdict(2).digest, "known": True}


def test_the_signature_goes_where_the_bundle_goes(shop, tmp_path):
    """To MLflow and into the Bento's model; DVC's own copy stays as DVC knows it."""
    trust = Trust(str(shop.pair.trusted), required=True)
    fetched = shop.registered(2, tmp_path / "two")
    signing.verify(fetched, trust)
    stored = bentos.stored(shop.settings.home, fetched.digest)
    signing.verify(stored, trust)
    assert not (shop.root / "build/bundle" / SIGNATURE).exists()
    assert dvc(shop.root, "status", "export").strip() == "Data and pipelines are up to date."


def test_register_signs_with_the_key(shop, tmp_path):
    """What is registered is signed; the folder given is left alone."""
    made = bigram_bundle(tmp_path / "bundle")
    number = json.loads(cli(shop.root, "register", str(made.path), "--json").stdout)["version"]
    signing.verify(shop.registered(number, tmp_path / "fetched"), Trust(str(shop.pair.trusted), required=True))
    assert not (made.path / SIGNATURE).exists()


def test_what_a_stranger_signed_is_not_registered(shop, tmp_path):
    """At the door: nor does our key sign over it."""
    made = bigram_bundle(tmp_path / "bundle", seed=2)
    signing.sign(made.path, shop.stranger.key)
    done = cli(shop.root, "register", str(made.path), check=False)
    assert done.returncode == 1
    assert "is not what own.pub signed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_a_stranger_registered_is_turned_away(shop, tmp_path):
    """With plain MLflow there is no door; the gate holds. It is judged by its signature alone."""
    made = bigram_bundle(tmp_path / "bundle", seed=3)
    signing.sign(made.path, shop.stranger.key)
    run = runs.start(shop.uri, "stranger", "none", {}, {})
    number = versions.register(shop.uri, made, run)
    for waiting in versions.pending(shop.uri):
        candidate = Release(shop.settings, shop.uri).fetch_new_model(Candidate())
        assert candidate.version == waiting.version
        Release(shop.settings, shop.uri).select_model(candidate)
    [gate] = shop.verdict(number).gates
    assert gate.gate == "signature"
    assert "is not what own.pub signed" in gate.reason


def test_without_its_key_nothing_is_trained(shop):
    """Said at once, not after hours of training."""
    done = cli(shop.root, "train", "--set", "signing.key=nowhere.pem", check=False)
    set_params(shop.root, {"signing.key": str(shop.pair.key)})
    assert done.returncode == 1
    assert "nowhere.pem, and there is no such file" in done.stderr


def test_a_measure_is_needed_where_signatures_are(shop):
    """`require_signature` alone would let nothing or everything pass."""
    done = cli(shop.root, "status", "--json")
    assert done.returncode == 0
    text = (shop.root / "params.yaml").read_text()
    try:
        (shop.root / "params.yaml").write_text(text.replace("trusted: own.pub", "trusted: null"))
        done = cli(shop.root, "status", check=False)
    finally:
        (shop.root / "params.yaml").write_text(text)
    assert done.returncode == 1
    assert "signing.require_signature is True; set signing.trusted too" in done.stderr


@contextlib.contextmanager
def service(shop, log):
    """The service as `lyrics-lm up` starts it; yields its port."""
    port = processes.free_port()
    counters = log.with_suffix(".counters")
    counters.mkdir(exist_ok=True)
    command = _servers(shop.settings, "127.0.0.1", port, shop.uri, counters)["service"]
    environment = {**os.environ, **command.environment}
    with open(log, "wb") as output:
        started = subprocess.Popen(
            command.line,
            cwd=shop.settings.home,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield port
    finally:
        processes.stop(started.pid)
        started.wait()


def test_the_service_serves_nothing_whose_signature_is_spoilt(shop, tmp_path):
    """One flipped bit of the signature itself, which no digest covers: the version stays out, and the log says why."""
    home, log = shop.settings.home, tmp_path / "service.log"
    file = bentos.stored(home, rollout.read(home, "local").live.digest).path / SIGNATURE
    good = file.read_bytes()
    file.write_bytes(good[:700] + bytes([good[700] ^ 1]) + good[701:])
    try:
        with service(shop, log) as port:
            wait_for(lambda: "version 2 stays out" in log.read_text(errors="replace"))
            assert "is not what own.pub signed" in log.read_text(errors="replace")
            wait_for(lambda: _status(port) == 503)
    finally:
        file.write_bytes(good)
    with service(shop, log) as port:
        wait_for(lambda: _status(port) == 200)


def test_a_bento_by_itself_verifies_what_it_carries(shop, monkeypatch):
    """As in a container: trust comes with the environment, and the bundle with the Bento."""
    home = shop.settings.home
    stored = bentos.stored(home, rollout.read(home, "local").live.digest)
    monkeypatch.setenv(TRUST, to_json(Trust(str(shop.pair.trusted), required=True)).decode())
    assert bentos.validate(home, stored) is None
    monkeypatch.setenv(TRUST, to_json(Trust(str(shop.stranger.trusted), required=True)).decode())
    with bentos._running(home, bentos.tag(stored.digest)) as (url, _):
        log = home / "logs" / "validate.log"
        wait_for(lambda: "is not what stranger.pub signed" in log.read_text(errors="replace"))
        assert _status(int(url.rpartition(":")[2])) != 200


def _status(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code
    except httpx.TransportError:
        return None
