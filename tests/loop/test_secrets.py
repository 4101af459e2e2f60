"""Secrets planted wherever one can come in, and searched for in all that a loop writes, says and sends."""

import base64
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import httpx
import polars as pl
import pytest

from dagshub import REPO, WRITER, dagshub
from workspaces import SHORT, Up, cli, git, make_workspace, set_params, wait_for

NAMES = ("hook", "aws", "session", "bearer", "remote", "wrong")
HOOK, AWS, SESSION, BEARER, REMOTE, WRONG = (f"planted-{name}-9f2c71e0" for name in NAMES)
TOKEN = WRITER  # which the server in the test takes
# Where a secret is kept, because a person put it there: files that no one but the owner reads, and Git leaves alone.
KEEPERS = {".lyrics-lm/connection.json", ".dvc/config.local", ".git/config"}


def planted(**more):
    """An environment full of secrets, as it may be on a machine of a team."""
    return {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
        "AWS_SECRET_ACCESS_KEY": AWS,
        "AWS_SESSION_TOKEN": SESSION,
        "LYRICS_LM_NOTIFY_URL": f"http://127.0.0.1:9/services/{HOOK}",
        "MLFLOW_TRACKING_TOKEN": BEARER,
        **more,
    }


def forms(secret):
    """A secret as it may be written: plain, as a part of basic auth, or for an address."""
    basic = base64.b64encode(f"{secret}:{secret}".encode())
    return [secret.encode(), basic, base64.b64encode(secret.encode()).rstrip(b"=")]


def leaks(secrets, contents):
    """Which secret is in which of the named contents."""
    return {
        (secret, name)
        for secret in secrets
        for name, content in contents.items()
        if any(form in content for form in forms(secret))
    }


def written(folder):
    """All that lies under a folder by its relative name: as it is, and unpacked where it is packed."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        name = str(path.relative_to(folder))
        found[name] = path.read_bytes()
        if path.suffix == ".parquet":
            found[f"{name} unpacked"] = pl.read_parquet(path).write_ndjson().encode()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found.update({f"{name}/{part}": archive.read(part) for part in archive.namelist()})
    for repository in folder.rglob(".git"):
        if repository.is_dir():
            objects = run_bytes(["git", "cat-file", "--batch-all-objects", "--batch"], repository.parent)
            found[f"{repository.relative_to(folder)} objects"] = objects
    return found


def run_bytes(command, folder):
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout


class Terminal:
    """Commands run in a workspace, and all they said."""

    def __init__(self, workspace, environment):
        self.workspace, self.environment, self.said = workspace, environment, {}

    def __call__(self, *args):
        done = cli(self.workspace, *args, check=False, env=self.environment)
        self.said[f"output of {' '.join(args)}"] = (done.stdout + done.stderr).encode()
        return done


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A fresh workspace, whose Git remote holds a token as many do."""
    root = make_workspace(tmp_path_factory.mktemp("blank") / "mine", songs=150, **{"model.name": "bigram"})
    git(root, "remote", "add", "origin", f"https://ann:{REMOTE}@git.example.org/ann/songs.git")
    return root


def place(blank, folder):
    """A copy of it, with a home and a place for passing files of its own, so that all of them are searched."""
    (folder / "home").mkdir(parents=True)
    (folder / "tmp").mkdir()
    root = Path(shutil.copytree(blank, folder / "mine", symlinks=True))
    return root, planted(HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"))


def asked(up, key):
    """Requests with a good key, a wrong one, and bodies of no use: everything that comes back."""
    back = {}
    bodies = [{"prompt": "love is", "max_tokens": 5}, {"prompt": 5}, {"prompt": "la", "user": "ann", "stream": True}]
    for shown in (key, WRONG):
        headers = {"authorization": f"Bearer {shown}"}
        for number, body in enumerate(bodies):
            answer = httpx.post(f"{up.url}/v1/completions", json=body, headers=headers, timeout=20)
            back[f"answer {number}"] = answer.content + str(answer.headers).encode()
        for path in ("/metrics", "/openapi.json", "/v1/models", "/nowhere"):
            answer = httpx.get(up.url + path, headers=headers, timeout=20)
            back[f"answer of {path} {shown == key}"] = answer.content + str(answer.headers).encode()
    return back


def test_a_connected_loop_tells_no_secret(blank, tmp_path):
    """Token, keys, hooks and cloud credentials: in no log, no run, no bundle or Bento, no record, no commit and no
    answer, whether things go well or fail; the files that keep the login are their owner's alone."""
    root, environment = place(blank, tmp_path / "here")
    with dagshub(tmp_path / "there") as host:
        terminal = Terminal(root, {**environment, **host.environment()})
        assert terminal("connect", "dagshub", REPO).returncode == 0
        made = cli(root, "keys", "add", "ann", env=environment)
        key = made.stdout.strip()
        up = Up(root, environment=environment)
        try:
            wait_for(lambda: live(up, key), seconds=120)
            said = asked(up, key)
            set_params(root, {"model.name": "transformer", **SHORT, "training.steps": 3})
            for args in (
                ["train"],
                ["deliver"],
                ["status"],
                ["why"],
                ["doctor"],
                ["drift"],
                ["keys", "list", "--json"],
            ):
                terminal(*args)
            assert terminal("why", "1", "--json").returncode == 0
        finally:
            up.interrupt()
    for args in (["status"], ["train"], ["deliver"], ["doctor"]):  # the server is gone now
        assert terminal(*args).returncode == 1
    contents = {**terminal.said, **said, "the terminal of up": up.said.encode()}
    contents |= written(tmp_path / "here") | {
        f"server: {name}": text for name, text in written(tmp_path / "there").items()
    }
    found = leaks([TOKEN, key, WRONG, HOOK, AWS, SESSION, BEARER, REMOTE], contents)
    assert {(secret, name) for secret, name in found if name.removeprefix("mine/") not in KEEPERS} == set()
    assert {name for secret, name in found if secret == TOKEN} == {
        "mine/.lyrics-lm/connection.json",
        "mine/.dvc/config.local",
    }


def test_a_password_in_an_address_is_told_nowhere(blank, tmp_path):
    """`MLFLOW_TRACKING_URI=https://user:password@host` works, and what is shown and written is the rest of it."""
    root, environment = place(blank, tmp_path / "here")
    with dagshub(tmp_path / "there") as host:
        address = f"{host.url}/{REPO}.mlflow".replace("://", f"://{TOKEN}:{TOKEN}@")
        terminal = Terminal(root, {**environment, "MLFLOW_TRACKING_URI": address})
        up = Up(root, environment=terminal.environment)
        try:
            up.wait_live(seconds=120)
            for args in (["status"], ["why"], ["doctor"], ["train", "--set", "corpus.near_duplicate=0.6"], ["deliver"]):
                terminal(*args)
        finally:
            up.interrupt()
        assert b"version 1" in terminal.said["output of status"]
    for args in (["status"], ["train"], ["deliver"], ["doctor"]):  # the server is gone now
        assert terminal(*args).returncode == 1
    assert host.url.encode() in terminal.said["output of status"]
    contents = {**terminal.said, "the terminal of up": up.said.encode(), **written(tmp_path / "here")}
    contents |= {f"server: {name}": text for name, text in written(tmp_path / "there").items()}
    found = leaks([TOKEN, HOOK, AWS, SESSION, BEARER, REMOTE], contents)
    assert {(secret, name) for secret, name in found if name.removeprefix("mine/") not in KEEPERS} == set()


def test_a_password_in_an_address_to_connect_to_is_kept_apart(blank, tmp_path):
    """Of the registry, it is kept with the login; of the songs, whose address Git tracks, it is refused."""
    root, environment = place(blank, tmp_path / "here")
    with dagshub(tmp_path / "there") as host:
        inside = host.url.replace("://", f"://{TOKEN}:{TOKEN}@") + f"/{REPO}"
        terminal = Terminal(root, environment)
        refused = terminal("connect", "--tracking-uri", f"{inside}.mlflow", "--dvc-remote", f"{inside}.dvc")
        assert refused.returncode == 1
        assert "holds a password, and Git tracks it" in refused.stderr
        assert terminal("connect", "--tracking-uri", f"{inside}.mlflow").returncode == 0
        assert terminal("status", "--json").returncode == 0
    said = {"connect": (refused.stdout + refused.stderr).encode()} | dict(list(terminal.said.items())[1:])
    found = leaks([TOKEN], {**said, **written(tmp_path / "here")})
    assert {name for _, name in found} == {"mine/.lyrics-lm/connection.json"}


def test_a_database_with_a_password_is_no_registry(blank, tmp_path):
    """It could not be named without the password; the remedy is a server, and the error does not repeat it."""
    root, environment = place(blank, tmp_path)
    said = cli(
        root,
        "status",
        check=False,
        env={**environment, "MLFLOW_TRACKING_URI": f"postgresql://ann:{TOKEN}@db.example.org/mlflow"},
    )
    assert (said.returncode, TOKEN in said.stderr) == (1, False)
    assert "start an MLflow server over it" in said.stderr


def live(up, key):
    try:
        answer = httpx.get(f"{up.url}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=5)
        return answer.json().get("data")
    except (httpx.TransportError, ValueError):
        return None
