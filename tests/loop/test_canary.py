"""Versions on trial under load: the real service, the registry, and eight clients that never see a failure."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bundles import VOCAB, bigram_graph, graph, graph_bundle
from lyrics_lm import params, processes, rollout
from lyrics_lm.evaluation.trial import Trial
from lyrics_lm.packaging import bentos
from lyrics_lm.records import LiveVersion, Verdict, from_json
from lyrics_lm.registry import deployments, server
from lyrics_lm.serving import HOME, TARGET
from lyrics_lm.steps import trial
from lyrics_lm.steps.register import register
from workspaces import LYRICS_LM, cli, wait_for

VERDICT = Verdict("d", None, 0.0, ())
DELIVERY = "gates: {latency_ratio: 5}\ndelivery: {strategy: canary, decide_within: %d, undecided: abort}\n"
SIZE = len(VOCAB) + 1
LANGUAGE = np.random.default_rng(7).normal(scale=2.5, size=(SIZE, SIZE))
CHANCES = np.exp(LANGUAGE) / np.exp(LANGUAGE).sum(axis=1, keepdims=True)
CLIENTS = 8
ATTENDING = """
import sys, time
from pathlib import Path
from lyrics_lm import params
from lyrics_lm.steps import trial
while True:
    trial.attend(params.load(Path(sys.argv[1])), sys.argv[2], print)
    time.sleep(0.1)
"""


def diluted(share):
    """Logits of the language, mixed with so much of nothing: the more, the worse it predicts."""
    return np.log((1 - share) * CHANCES + share / SIZE).astype(np.float32)


def crashing(logits):
    """Fails whenever it reads a z: its second table ends before."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["now"]),
        helper.make_node("Gather", ["short", "tokens"], ["none"]),
        helper.make_node("Add", ["now", "none"], ["logits"]),
    ]
    short = np.zeros((VOCAB.index("z"), 1), dtype=np.float32)
    return graph(nodes, ["tokens"], ["logits"], {"table": logits, "short": short})


def slow(logits):
    """The same answers, after a million multiplications for each token."""
    heavy = np.zeros((1024, 1024), dtype=np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["now"]),
        helper.make_node("Gather", ["wide", "tokens"], ["w0"]),
        *(helper.make_node("MatMul", [f"w{place}", "heavy"], [f"w{place + 1}"]) for place in range(3)),
        helper.make_node("ReduceSum", ["w3", "last"], ["none"], keepdims=1),
        helper.make_node("Add", ["now", "none"], ["logits"]),
    ]
    weights = {"table": logits, "wide": np.zeros((SIZE, 1024), dtype=np.float32), "heavy": heavy}
    return graph(nodes, ["tokens"], ["logits"], {**weights, "last": np.array([2], dtype=np.int64)})


def tabled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A bigram of the same table."""
    [logits] = [numpy_helper.to_array(one) for one in model.graph.initializer if one.name == "table"]
    return bigram_graph(logits)


def named(model: onnx.ModelProto, number: int) -> onnx.ModelProto:
    """Another digest for the same graph."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([number]), f"of_version_{number}"))
    return model


class Shop:
    """A home with a registry and a service, whose champion is middling."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "mine"
        self.root.mkdir()
        self.agree(600)
        self.home = params.load(self.root).home
        self.url = f"http://127.0.0.1:{processes.free_port()}"
        self.said = []

    @property
    def settings(self):
        return params.load(self.root)

    def agree(self, seconds):
        (self.root / "params.yaml").write_text(DELIVERY % seconds)

    def version(self, model):
        """Registered under the table alone: what no gate finds is what a trial is for."""
        made, plain = (
            graph_bundle(self.folder / f"bundle-{random.random()}", one, context=context)
            for one, context in ((model, 2), (tabled(model), 1))
        )
        number = register(self.settings, plain.path).version
        return LiveVersion(number, made.digest, "tiny", "by hand", 3.0, f"bento:{number}", str(made.path))

    def deploy(self, model, share):
        version = self.version(model)
        rollout.deploy(self.home, "local", version, "for the test", VERDICT, share=share)
        return version

    def serve(self):
        command = [sys.executable, "-m", "bentoml", "serve", bentos.SERVICE, "--host", "127.0.0.1"]
        told = {**bentos.serving_environment(self.home), HOME: str(self.home), TARGET: "local"}
        return subprocess.Popen(
            [*command, "--port", self.url.rpartition(":")[2]], env={**os.environ, **told}, start_new_session=True
        )

    def ready(self):
        try:
            return httpx.get(f"{self.url}/readyz").is_success
        except httpx.TransportError:
            return False

    def until_alone(self, seconds=60):
        """Look as the controller does, until the trial is over; returns the last deployment."""

        def look():
            trial.attend(self.settings, self.uri, self.said.append)
            current = rollout.read(self.home, "local").current
            return current if len(current.versions) == 1 and current.action != "deploy" else None

        return wait_for(look, seconds=seconds, every=0.3)

    def controller(self):
        """A process that attends to the trial as the controller does, to be killed."""
        environment = {**os.environ, "MLFLOW_TRACKING_URI": self.uri}
        return subprocess.Popen([sys.executable, "-c", ATTENDING, str(self.root), self.uri], env=environment)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("trial"))
    with server.tracking(shop.settings) as shop.uri:
        shop.deploy(bigram_graph(diluted(0.5)), 100)
        service = shop.serve()
        wait_for(shop.ready)
        yield shop
        processes.stop(service.pid)


class Load:
    """Eight clients under many names, with prompts of the language; notes what failed."""

    def __init__(self, url):
        self._url, self._over = url, threading.Event()
        self.answers, self.failures = 0, []

    def __enter__(self):
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._work = [self._pool.submit(self._ask, seed) for seed in range(CLIENTS)]
        return self

    def __exit__(self, *_):
        self._over.set()
        for work in self._work:
            work.result()

    def _ask(self, seed):
        draw = np.random.default_rng(seed)
        with httpx.Client(timeout=20) as client:
            while not self._over.is_set():
                ids = [1]
                while len(ids) < 40:
                    ids.append(int(draw.choice(SIZE, p=CHANCES[ids[-1]])))
                prompt = "".join(VOCAB[token - 1] for token in ids if token)
                body = {"prompt": prompt, "max_tokens": 24, "user": f"client {draw.integers(1000)}", "stream": seed % 2}
                answer = client.post(f"{self._url}/v1/completions", json={**body, "stream": bool(seed % 2)})
                self.answers += 1
                if not answer.is_success or "server_error" in answer.text:
                    self.failures.append(answer.text)
                time.sleep(0.02)


@pytest.mark.parametrize(
    ("make", "action", "says"),
    [
        (lambda: crashing(diluted(0.5)), "abort", "answers failed, more than 1.0% can explain"),
        (lambda: slow(diluted(0.5)), "abort", "times as long per token, and 5 times is the most"),
        (lambda: bigram_graph(diluted(0.7)), "abort", "proved worse: +"),
        (lambda: bigram_graph(diluted(0.3)), "promote", "proved better: -"),
    ],
    ids=["crashing", "slow", "worse", "better"],
)
def test_a_canary_ends_as_it_should(shop, make, action, says):
    """Under load, with no failed request, and on record once; a better one has had 25% on the way."""
    shop.agree(600)
    tried = shop.deploy(make(), 5)
    with Load(shop.url) as load:
        ended = shop.until_alone()
    assert (ended.action, load.failures[:3]) == (action, [])
    assert says in ended.reason
    assert load.answers > 50
    assert (ended.versions[0].digest == tried.digest) == (action == "promote")
    assert [one.id for one in deployments.every(shop.uri, "local")].count(ended.id) == 1
    if action == "promote":
        assert f"version {tried.version} is tried with 25%" in "\n".join(shop.said)


def test_an_equal_one_is_undecided_and_ends_as_agreed(shop):
    """Neither better nor worse, however long: after the time, what `delivery.undecided` says."""
    champion = rollout.read(shop.home, "local").live
    shop.agree(15)
    equal = onnx.load(f"{champion.path}/model.onnx")
    shop.deploy(named(equal, 1), 5)
    with Load(shop.url) as load:
        ended = shop.until_alone()
    assert (ended.action, load.failures[:3]) == ("abort", [])
    assert "undecided in 15 s" in ended.reason
    assert ended.versions[0].digest == champion.digest


def test_a_shadow_is_seen_by_nobody(shop):
    """Prompts of the log tell enough; no client met it before it was promoted."""
    shop.agree(600)
    tried = shop.deploy(bigram_graph(diluted(0.1)), 0)
    before = rollout.read(shop.home, "local").current
    assert before.action == "shadow"
    answers = {httpx.post(f"{shop.url}/generate", json={"prompt": "love"}).headers["x-model-digest"] for _ in range(30)}
    assert answers == {before.versions[0].digest}
    seen = cli(shop.root, "status", env={**os.environ, "MLFLOW_TRACKING_URI": shop.uri}).stdout
    assert f"version {tried.version} (by hand" in seen
    assert "at 0%" in seen
    ended = shop.until_alone()
    assert ended.action == "promote"
    assert "proved better" in ended.reason


def test_a_version_that_fails_is_rolled_back(shop):
    """It took over at once, and more of its answers fail than may: what served before is back, and why is known."""
    good = rollout.read(shop.home, "local").live
    rollout.deploy(shop.home, "local", shop.version(crashing(diluted(0.02))), "for the test", VERDICT)
    with Load(shop.url) as load:
        ended = shop.until_alone()
    assert (ended.action, ended.versions[0].digest) == ("rollback", good.digest)
    assert "answers failed" in ended.reason
    assert load.failures
    assert "was rolled back" in shop.said[-1]


def test_beside_an_orchestrator_the_controller_attends_to_trials_alone(shop):
    """Whoever delivered it, a version that fails is taken back by `watch --only-trials`, which trains nothing."""
    good = rollout.read(shop.home, "local").live
    command = [*LYRICS_LM, "-C", str(shop.root), "watch", "--only-trials"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as watching:
        rollout.deploy(shop.home, "local", shop.version(crashing(diluted(0.03))), "for the test", VERDICT)
        with Load(shop.url):
            wait_for(lambda: rollout.read(shop.home, "local").current.action == "rollback", seconds=90)
        line = watching.stdout.readline()  # it says so a moment after it is done
        processes.stop(watching.pid)
        assert watching.stdout.read() == ""
    assert rollout.read(shop.home, "local").live.digest == good.digest
    assert "was rolled back" in line


def test_a_controller_killed_in_mid_canary_goes_on_where_it_was(shop):
    """kill -9 whenever it has gathered more, three times: all of it counts on, each share is given once, and it ends
    as it should."""
    shop.agree(600)
    shop.deploy(bigram_graph(diluted(0.6)), 100)
    before = len(rollout.read(shop.home, "local").history)
    tried = shop.deploy(bigram_graph(diluted(0.25)), 5)
    kept = shop.home / "trials" / f"{rollout.read(shop.home, 'local').current.id}.json"

    def over():
        return rollout.read(shop.home, "local").challenger is None

    def prompts():
        return from_json(kept.read_bytes(), Trial).prompts if kept.is_file() else 0

    gathered = [0]
    with Load(shop.url) as load:
        for last in (False, False, False, True):
            attending = shop.controller()
            wait_for(lambda last=last: over() or (not last and prompts() > gathered[-1]), seconds=60, every=0.02)
            attending.kill()
            attending.wait()
            gathered.append(prompts())
    reason = rollout.read(shop.home, "local").current.reason
    assert load.failures == []
    assert 0 < gathered[1] < gathered[-1], reason
    assert gathered == sorted(gathered)
    ended = rollout.read(shop.home, "local").history[before:]
    shares = [(one.action, one.versions[-1].share) for one in ended]
    assert shares == [("canary", 5), ("shift", 25), ("promote", 100)], reason
    assert ended[-1].versions[0].digest == tried.digest


def test_a_person_promotes_or_aborts_what_is_tried(tmp_path):
    """In words that say who has which share; without a trial they are told so."""
    (tmp_path / "params.yaml").write_text("delivery:\n  strategy: canary\n")
    home = tmp_path / ".lyrics-lm"

    def version(number):
        return LiveVersion(number, f"{number:064x}", "tiny", "by hand", 3.0, f"bento:{number}", "/nowhere")

    rollout.deploy(home, "local", version(1), "first", VERDICT)
    assert "no version is being tried at local" in cli(tmp_path, "promote", check=False).stderr
    rollout.deploy(home, "local", version(2), "better", VERDICT, share=5)
    assert "version 1: 75%, version 2: 25%" in cli(tmp_path, "promote", "--share", "25").stdout
    assert "version 1: 100%" in cli(tmp_path, "abort").stdout
    rollout.deploy(home, "local", version(3), "better still", VERDICT, share=5)
    promoted = json.loads(cli(tmp_path, "promote", "--json").stdout)
    assert (promoted["action"], promoted["versions"][0]["version"]) == ("promote", 3)
