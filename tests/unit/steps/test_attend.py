"""What a look at a trial makes of the traffic log: each record once, whoever is killed in between."""

import time

import pytest

from bundles import bigram_bundle
from lyrics_lm import params, rollout
from lyrics_lm.records import LiveVersion, TrafficRecord, Verdict
from lyrics_lm.steps import trial
from lyrics_lm.traffic import TrafficLog

VERDICT = Verdict("d", None, 0.0, ())


@pytest.fixture
def settings(tmp_path):
    """A champion, and a challenger with 5% of the clients."""
    (tmp_path / "params.yaml").write_text("delivery: {strategy: canary}")
    settings = params.load(tmp_path)
    for number, share in ((1, 100), (2, 5)):
        made = bigram_bundle(tmp_path / f"bundle-{number}", seed=number)
        version = LiveVersion(number, made.digest, "tiny", "by hand", 4.0, "bento", str(made.path))
        rollout.deploy(settings.home, "local", version, "for the test", VERDICT, share=share)
    return settings


def log(settings, place, finishes, prompt="la la la and on"):
    """Answers of the version at that place, in the log for long enough to be read."""
    digest = rollout.read(settings.home, "local").current.versions[place].digest
    log = TrafficLog(settings.home / "traffic")
    for number, finish in enumerate(finishes):
        asked = f"{prompt} {number}"
        log.append(TrafficRecord(time.time(), f"r{number}", digest, asked, {}, "", len(asked), 30, 0.3, finish))
    log.close()
    time.sleep(trial._MARGIN_SECONDS + 0.1)


def look(settings):
    trial.attend(settings, "nowhere", lambda _: None)
    return trial.evidence(settings.home)


def test_each_record_counts_once(settings):
    """However often somebody looks, with or without anything new."""
    log(settings, 1, ["stop"] * 4 + ["cancelled"])
    seen = [look(settings) for _ in range(3)]
    assert {(one.answers, one.errors, one.prompts) for one in seen} == {(4, 0, 5)}
    log(settings, 1, ["length", "error"])
    seen = [look(settings) for _ in range(3)]
    assert {(one.answers, one.errors, one.prompts) for one in seen} == {(6, 1, 5)}


def test_prompts_of_either_version_are_given_to_both(settings):
    """The champion's clients tell as much; each distinct prompt once."""
    log(settings, 0, ["stop"] * 3)
    log(settings, 1, ["stop"] * 3)
    assert look(settings).prompts == 3
    assert look(settings).answers == 3


def test_without_text_only_faults_are_seen(settings):
    """Hashes cannot be scored."""
    (settings.root / "params.yaml").write_text("delivery: {strategy: canary}\ntraffic: {store_text: hash}")
    settings = params.load(settings.root)
    log(settings, 1, ["stop", "error"])
    seen = look(settings)
    assert (seen.prompts, seen.answers, seen.errors) == (0, 2, 1)


def test_where_nothing_is_tried_nothing_is_told(settings):
    """A trial that is over leaves no line behind, and what took over is watched under its own."""
    log(settings, 1, ["stop"])
    assert look(settings).share == 5
    rollout.shift(settings.home, "local", 0, "by hand")
    assert look(settings) is None
