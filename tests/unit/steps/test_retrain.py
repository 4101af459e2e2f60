"""What follows an alarm: said and passed on once, prompts learnt where allowed, words named where nothing helps."""

import dataclasses
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bundles import bigram_bundle
from drifting import OTHER, SONG, turn
from lyrics_lm import params, rollout
from lyrics_lm.monitoring.trigger import Decision
from lyrics_lm.records import LiveVersion, Verdict
from lyrics_lm.steps import drift, inbox, ledger, retrain


@pytest.fixture
def settings(tmp_path):
    """A workspace in which a version is live, and whose traffic turned after 60 requests."""
    root = tmp_path / "mine"
    (root / "data" / "songs").mkdir(parents=True)
    (root / "data" / "songs" / "0001-a.csv").write_text(f"artist,song,text\nA,B,{SONG}\n")
    (root / "params.yaml").write_text("drift:\n  reference: 60\n")
    made = bigram_bundle(tmp_path / "bundle")
    live = LiveVersion(1, made.digest, "tiny", "by hand", 4.0, "bento", str(made.path))
    rollout.deploy(root / ".lyrics-lm", "local", live, "by hand", Verdict(made.digest, None, 0.0, ()))
    return params.load(root)


def turned(settings):
    """The alarm after traffic turned, and what was said."""
    said = []
    turn(settings)
    return retrain.alarm(settings, said.append), said


def changed(settings, **sections):
    update = {name: getattr(settings.params, name).model_copy(update=values) for name, values in sections.items()}
    return dataclasses.replace(settings, params=settings.params.model_copy(update=update))


def test_an_alarm_is_said_and_posted_once(settings):
    """The terminal and `drift.notify_url` hear of it, and not again."""
    heard = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = changed(settings, drift={"notify_url": f"http://127.0.0.1:{server.server_port}/"})
    seen, said = turned(settings)
    assert retrain.alarm(settings, said.append).finding == seen.finding
    server.shutdown()
    server.server_close()
    assert len(said) == len(heard) == 1
    assert heard[0]["drift_detected"] is True
    assert len(heard[0]["examples"]) == 3


def test_a_hook_that_is_away_holds_nothing_up(settings):
    """Nobody at `drift.notify_url`: that is said, but not the rest of the address, and the loop goes on."""
    seen, said = turned(changed(settings, drift={"notify_url": "http://127.0.0.1:9/services/secret"}))
    assert seen.finding
    assert "did not reach 127.0.0.1 (drift.notify_url)" in said[1]
    assert "secret" not in said[1]


def test_where_nothing_helps_the_missing_words_are_named(settings):
    """The answer is written down, so that it is given once, and shown by the report."""
    seen, said = turned(settings)
    retrain.carry_out(settings, "", seen, Decision("tell", "drift"), said.append)
    assert any(word in said[-1] for word in OTHER.split())
    assert not any(f" {word}," in said[-1] for word in SONG.split())
    assert drift.drift(settings).advice == said[-1]


def test_without_text_it_says_what_it_cannot_tell(settings):
    """With numbers alone the drift is proved all the same; words cannot be named, and no prompt judges."""
    settings = changed(settings, traffic={"store_text": "none"})
    seen, said = turned(settings)
    retrain.carry_out(settings, "", seen, Decision("tell", "drift"), said.append)
    assert "store_text" in said[-1]
    assert retrain.gate_prompts(settings) == []


def test_what_is_learnt_from_does_not_judge(settings):
    """Half of the drifted prompts become a song file in the inbox, the other half stay for the gate."""
    seen, said = turned(settings)
    every = retrain.gate_prompts(settings)
    retrain.carry_out(settings, "", seen, Decision("learn from traffic", "drift"), said.append)
    [file] = (settings.root / inbox.INBOX).glob("*.jsonl")
    learnt = {json.loads(line)["text"] for line in file.read_text().splitlines()}
    judging = set(retrain.gate_prompts(settings))
    assert learnt | judging == set(every)
    assert not learnt & judging
    assert ledger.read(settings.home).learnt == (seen.deployment,)


def test_a_new_deployment_begins_anew(settings):
    """What was proved of one version says nothing of the next."""
    seen, said = turned(settings)
    assert seen.finding
    live = rollout.read(settings.home, "local").live
    other = dataclasses.replace(live, version=2, digest="e" * 64)
    rollout.deploy(settings.home, "local", other, "better", Verdict(other.digest, live.digest, 0.0, ()))
    assert retrain.alarm(settings, said.append) is None
    assert drift.drift(settings).reference == 0
