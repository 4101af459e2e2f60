"""Scenario 2 as it happens, unattended: traffic turns, the loop says so, finds the songs, and cures itself, once.

Every phase is met by a kill -9. The second genre is the first with each word spelt backwards: another language to
the model and to the word counts, in known letters.
"""

import csv
import json
import os
import signal
import time
from statistics import mean

import httpx
import pytest

from lyrics_lm import traffic
from lyrics_lm.corpus import sample
from workspaces import Up, cli, git, make_workspace, wait_for

REFERENCE = 60


def backwards(text):
    return "\n".join(" ".join(word[::-1] for word in line.split()) for line in text.splitlines())


def prompts(count, start=0):
    """Different opening lines of songs that nobody trained on."""
    songs = list(sample.generate(400, seed=9))[start : start + count]
    return [" ".join(song.text.split("\r\n")[0].split()) + f"\n{song.text.split()[-1]}" for song in songs]


def inbox_file(up, name, texts):
    inbox = up.workspace / "data" / "inbox"
    inbox.mkdir(exist_ok=True)
    with open(inbox / name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["artist", "song", "text"])
        writer.writerows(["Backwards", f"song {number}", text] for number, text in enumerate(texts))


def ask(up, asked):
    for prompt in asked:
        wait_for(lambda prompt=prompt: answered(up, prompt), seconds=30)


def answered(up, prompt):
    try:
        body = {"prompt": prompt, "max_tokens": 4}
        return httpx.post(f"{up.url}/v1/completions", json=body, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def kill(up, role):
    """kill -9, and wait until it is back."""
    before = up.pids(role)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: up.pids(role) and not set(before) & set(up.pids(role)), seconds=30)


def drift(up):
    return json.loads(cli(up.workspace, "drift", "--json").stdout)


def watched(up, requests):
    """The drift report once that many requests have been looked at."""
    return wait_for(lambda: (seen := drift(up))["requests"] >= requests and seen, seconds=30, every=0.5)


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    settings = {
        "model.name": "bigram",
        "drift.reference": REFERENCE,
        "drift.debounce": 0.5,
        "drift.cooldown": 0,
        "gates.tolerance": 0.3,
    }
    running = Up(make_workspace(tmp_path_factory.mktemp("drift") / "mine", **settings))
    try:
        running.wait_live(seconds=180)
        yield running
    finally:
        running.end()


def test_usual_traffic_is_no_drift(up):
    """After its reference, the loop is quiet, whoever is killed meanwhile."""
    ask(up, prompts(REFERENCE))
    time.sleep(1.2)  # what came in the last second before a kill may be lost
    kill(up, "service")
    ask(up, prompts(40, start=100))
    seen = watched(up, 40)
    assert seen["reference"] == REFERENCE
    assert seen["drift_detected"] is False
    assert "drift:" not in up.said


def test_a_drift_is_said_once_with_what_would_help(up):
    """Traffic turns; no song at hand can help: the champion stays, and the words that are missing are named."""
    up.turned = [backwards(prompt) for prompt in prompts(70, start=150)]
    ask(up, up.turned[:30])
    up.wait_said("drift:", seconds=30)
    kill(up, "controller")
    ask(up, up.turned[30:])
    line = up.wait_said("no songs at hand can help", seconds=40)
    assert any(backwards(word) in line for word in ("the", "and", "you", "love"))
    seen = drift(up)
    assert seen["drift_detected"]
    assert seen["advice"] in line
    assert len(seen["examples"]) == 3
    assert 30 <= seen["since_request"] <= 55
    time.sleep(2)
    assert [up.said.count(text) for text in ("drift:", "no songs at hand")] == [1, 1]
    assert up.live()["version"] == 1


def test_an_unfinished_file_is_left_alone(up):
    """A file that some program still writes is not taken, however long it pauses."""
    inbox = up.workspace / "data" / "inbox"
    inbox.mkdir(exist_ok=True)
    with open(inbox / "half.csv", "w") as file:
        file.write("artist,song,text\nA,B,half a so")
        file.flush()
        time.sleep(2)
        assert (inbox / "half.csv").is_file()
        file.seek(0)
        file.truncate()
        file.write("nothing of use\n")
    wait_for(lambda: (inbox / "refused" / "half.csv").is_file(), seconds=20)
    assert "no text column" in (inbox / "refused" / "half.csv.why.txt").read_text()


def test_songs_in_the_inbox_cure_the_drift(up):
    """Songs of the new genre are taken in, trained because of the drift, judged on drifted traffic, and live."""
    songs = [backwards(song.text) for song in sample.generate(300, seed=3)]
    inbox_file(up, "backwards.csv", songs)
    up.wait_said("training commit", seconds=60)
    kill(up, "controller")
    live = up.wait_live(version=2, seconds=120)
    assert "drifted prompts" in live["reason"]
    assert git(up.workspace, "status", "--porcelain", "--", "data/songs.dvc") == ""
    assert (up.workspace / "data" / "inbox" / "taken" / "backwards.csv").is_file()


def test_the_new_version_is_better_where_traffic_went(up):
    """Bits per character on that traffic fall, and the reference starts anew."""
    ask(up, up.turned[:30])
    time.sleep(1.5)
    first, second = {}, {}
    for record in traffic.read(up.home / "traffic"):
        place = second if record.digest == up.live()["digest"] else first
        if record.prompt in up.turned:
            place[record.prompt] = record.prompt_bits_per_char
    assert len(second) == 30
    assert mean(second.values()) < mean(first[prompt] for prompt in second) - 0.3
    assert drift(up)["reference"] == 30


def test_why_tells_the_whole_story(up):
    """From the version back to the drift, the songs and the gate; everything happened once."""
    chain = json.loads(cli(up.workspace, "why", "2", "--json").stdout)
    assert "drift:" in chain["cause"]
    assert "new songs" in chain["cause"]
    assert chain["verdict"]["gates"][0]["gate"] == "recent traffic"
    assert len(chain["deployments"]) == 1
    assert json.loads(cli(up.workspace, "status", "--json").stdout)["pending"] == []


def test_a_step_tells_an_orchestrator(up):
    """`step drift` answers in JSON whether there is a drift."""
    assert json.loads(cli(up.workspace, "step", "drift").stdout)["drift_detected"] is False


def test_prompts_can_be_handed_over_as_the_reference(up, tmp_path):
    """A file of prompts says what is usual, at once; the pictures come in one file."""
    (tmp_path / "prompts.txt").write_text("\n".join(prompt.replace("\n", " ") for prompt in up.turned))
    told = cli(up.workspace, "drift", "set-reference", str(tmp_path / "prompts.txt")).stdout
    assert "reference: 70 prompts, from prompts.txt" in told
    few = tmp_path / "few.txt"
    few.write_text("love\n")
    assert "too few" in cli(up.workspace, "drift", "set-reference", str(few), check=False).stderr
    ask(up, up.turned[:15])
    watched(up, 15)
    cli(up.workspace, "drift", "--html", str(tmp_path / "drift.html"))
    page = (tmp_path / "drift.html").read_text()
    assert page.count("<svg") >= 5
    assert "Evidently" in page
