"""Every command that the README and the guides show, run as it stands there."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bundles import bigram_bundle
from lyrics_lm import processes, traffic
from lyrics_lm.corpus import sample
from workspaces import SHORT, SONGS, Up, git, run, set_params, wait_for

REPO = Path(__file__).parents[2]
README = REPO / "README.md"
CONTRACT = REPO / "docs" / "contract.md"
OPERATIONS = REPO / "docs" / "operations.md"
RELIABILITY = REPO / "docs" / "reliability.md"
TEAM = REPO / "docs" / "team.md"
AIRFLOW = REPO / "docs" / "airflow.md"
WORKSPACE = REPO / "src" / "lyrics_lm" / "workspace" / "template" / "README.md"
EXAMPLE = REPO / "examples" / "bring_your_own_model" / "README.md"

# What a span of text begins with when it is a command.
OURS = ("lyrics-lm", "make", "dvc", "git", ".")
# Commands that tests below run in a way of their own, or that other tests are the test of.
TOLD_APART = {
    README: {"make run", "make test", ". .venv/bin/activate", "lyrics-lm -C mine up", "git commit"},
    TEAM: {  # by tests/loop: test_{airflow,connect,replay,report,team}; and tests/unit/training/test_spread
        "git clone URL mine && cd mine",
        "lyrics-lm connect dagshub OWNER/REPO",
        "lyrics-lm connect --tracking-uri URL",
        "lyrics-lm connect --tracking-uri URL --dvc-remote URL",
        "lyrics-lm connect local",
        "dvc pull data/songs.dvc && dvc repro",
        "dvc push",
        "lyrics-lm replay VERSION",
        "lyrics-lm report --base REV",
        "lyrics-lm train --set training.processes=2",
        "lyrics-lm airflow up",
    },
    AIRFLOW: {
        "lyrics-lm airflow up",
        "lyrics-lm step NAME",
        "lyrics-lm watch --only-trials",
    },  # by test_airflow, test_dags
    WORKSPACE: {"lyrics-lm report --base HEAD", "lyrics-lm airflow up"},
    OPERATIONS: {
        "lyrics-lm up",
        "lyrics-lm watch",
        "lyrics-lm step NAME",
        "lyrics-lm undo",
        "lyrics-lm gc --keep 10",  # by test_gc
        "dvc gc --workspace",
    },
    RELIABILITY: {  # by test_drill, but for those that take a quarter of an hour and more
        "lyrics-lm drill",
        "lyrics-lm drill --short",
        "lyrics-lm drill --here",
        'lyrics-lm drill "kill a worker"',
        "lyrics-lm soak 30 --html soak.html",
        "lyrics-lm drill --json > drill.json",
        "lyrics-lm soak 30 --json > soak.json",
    },
}


def commands(page):
    """The commands of a page, in order: those in shell blocks, then those in the text."""
    text = page.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [span for span in re.findall(r"`([^`\n]+)`", prose) if " " in span and span.split()[0] in OURS]
    shown = (" ".join(line.split(" #")[0].split()) for line in [*lines, *spans])
    return [command for command in dict.fromkeys(shown) if command not in TOLD_APART.get(page, ())]


def shell(command, folder, names):
    """Run one shown command in `folder`, with names of the reader's own put in."""
    for shown, real in names.items():
        command = command.replace(shown, str(real))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    author = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org"}
    committer = {"GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.org"}
    return run(["bash", "-c", command], cwd=folder, env={**os.environ, "PATH": path, **author, **committer}).stdout


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """`mine`, made and brought up by the README's commands, with two versions behind it."""
    folder = tmp_path_factory.mktemp("reader")
    sample.write(folder / "songs.csv", songs=SONGS)
    shown = commands(README)
    shell(shown[0], folder, {})
    workspace = folder / "mine"
    sample.write(workspace / "more.csv", songs=60, seed=2)
    set_params(workspace, SHORT)
    git(workspace, "commit", "-qam", "train for seconds")
    up = Up(workspace)
    try:
        up.wait_live(architecture="transformer", seconds=120)
        yield up
    finally:
        up.end()


def test_every_command_of_the_readme_works(mine, tmp_path):
    """In the order of the page, in one workspace, beside a running `up`."""
    asked = httpx.post(f"{mine.url}/v1/completions", json={"prompt": "love is"}).headers["x-request-id"]
    wait_for(lambda: traffic.find(mine.home / "traffic", asked), seconds=20)
    names = {
        "localhost:3000": f"localhost:{mine.port}",
        "REQUEST-ID": asked,
        "DIR": bigram_bundle(tmp_path / "bundle").path,
    }
    for command in commands(README)[1:]:
        said = shell(command, mine.workspace, names)
        assert said or command.startswith("dvc params diff"), f"{command} said nothing"


def test_every_command_of_the_contract_guide_works(mine, tmp_path):
    """A bundle is checked and registered as the guide says."""
    names = {"my_bundle": bigram_bundle(tmp_path / "bundle", seed=5).path}
    for command in commands(CONTRACT):
        assert shell(command, mine.workspace, names)


def test_the_example_goes_from_songs_to_a_verdict(mine, tmp_path):
    """A stranger's network, trained, checked and registered by the three commands of its page."""
    names = {"SONGS.csv": f"{mine.workspace.parent / 'songs.csv'} --steps 5", "WORKSPACE": mine.workspace}
    bundle = tmp_path / "char-gru"
    *before, last = commands(EXAMPLE)
    for command in before:
        order = {"SONGS.csv /tmp/char-gru": f"{mine.workspace.parent / 'songs.csv'} {bundle} --steps 5"}
        shell(command, REPO, {**order, "/tmp/char-gru": bundle})
    said = shell(last, REPO, {**names, "/tmp/char-gru": bundle})
    number = re.search(r"version (\d+)", said).group(1)
    assert mine.wait_said(f"version {number} ")


def test_make_run_takes_a_clone_to_lyrics(tmp_path):
    """`make run` in a fresh clone: a workspace of its own, a page, and lyrics within a minute."""
    clone = tmp_path / "clone"
    run(["git", "clone", "-q", "--no-local", str(REPO), str(clone)])
    port = processes.free_port()
    venv = Path(sys.executable).parents[1]
    make = ["make", "-o", f"{venv}/.installed", "run", f"VENV={venv}", f"PORT={port}"]
    with open(tmp_path / "said", "wb") as said:
        running = subprocess.Popen(make, cwd=clone, stdout=said, stderr=said, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        body = {"prompt": "love is", "max_tokens": 40}
        lyrics = wait_for(lambda: _answer(f"{url}/v1/completions", body), seconds=60, every=0.5)
        assert len(lyrics["choices"][0]["text"]) > 10
        assert "<html" in httpx.get(url).text
        wait_for(lambda: "version 1 is live after" in (tmp_path / "said").read_text())
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.wait(timeout=60)
    assert (tmp_path / "said").read_text().rstrip().endswith("stopped")
    assert not processes.leftovers(clone / "workspace" / ".lyrics-lm", "service")


def test_ci_runs_the_test_command_of_the_readme():
    """`.ci/run` is `make test`, which is what runs this."""
    assert "make test" in README.read_text()
    assert (REPO / ".ci" / "run").read_text().splitlines()[-1] == "make test"


@pytest.mark.parametrize("page", [OPERATIONS, RELIABILITY, WORKSPACE, TEAM, AIRFLOW], ids=lambda page: page.stem)
def test_other_pages_show_nothing_untried(page):
    """What they show stands in the README too, or is run by the tests of the loop."""
    assert set(commands(page)) <= {*commands(README), "lyrics-lm up"}


def _answer(url, body):
    try:
        answer = httpx.post(url, json=body, timeout=10)
    except httpx.TransportError:
        return None
    return answer.json() if answer.is_success else None
