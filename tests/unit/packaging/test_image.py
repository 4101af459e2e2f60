"""The context of a container image: complete, pinned, without torch; and it starts where nothing can be written."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from bundles import bigram_bundle
from lyrics_lm import processes
from lyrics_lm.packaging import image

READ_ONLY = 'mount --make-rprivate / && mount -t tmpfs tmpfs "$1" && mount -o remount,bind,ro / && shift && exec "$@"'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("image")
    bundle = bigram_bundle(home / "bundle")
    return bundle, image.context(home / "home", bundle, 3, image.name("you/lyrics", bundle.digest))


def test_the_context_holds_all_that_the_image_needs(made):
    """Every COPY finds its source; the libraries are pinned, and none of them trains."""
    bundle, folder = made
    dockerfile = (folder / "Dockerfile").read_text()
    sources = re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE)
    assert sources == ["requirements.txt", "bentoml"]
    assert all((folder / source).exists() for source in sources)
    pins = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in pin for pin in pins)
    assert not {"torch", "mlflow", "boto3"} & {pin.split("==")[0] for pin in pins}
    assert f'"serve", "lyrics-lm:{bundle.digest[:12]}"' in dockerfile
    assert re.search(r"^USER 10001", dockerfile, re.MULTILINE)
    assert image.size(folder) < 2e6


def test_a_context_is_made_once(made):
    """The image of a bundle does not change under its name."""
    bundle, folder = made
    before = (folder / "Dockerfile").stat().st_mtime_ns
    assert image.context(folder.parents[1], bundle, 9, "other:name") == folder
    assert (folder / "Dockerfile").stat().st_mtime_ns == before


def test_one_process_keeps_the_stores_of_two_homes_apart(made, tmp_path):
    """The image of another home holds its own Bento."""
    other = bigram_bundle(tmp_path / "bundle", seed=1)
    folder = image.context(tmp_path / "home", other, 1, "you/other:1")
    [bento] = (folder / "bentoml" / "bentos" / "lyrics-lm").iterdir()
    assert bento.name == other.digest[:12]
    assert (tmp_path / "home" / "bentoml" / "bentos" / "lyrics-lm" / bento.name / "bento.yaml").is_file()


def test_its_command_serves_from_a_read_only_root(made, tmp_path):
    """With the environment and command of the Dockerfile, in a mount namespace where only /tmp can be written."""
    bundle, folder = made
    dockerfile = (folder / "Dockerfile").read_text()
    [variables] = re.findall(r"^ENV (.*)$", dockerfile, re.MULTILINE)
    [command] = re.findall(r"^ENTRYPOINT \[(.*)\]$", dockerfile, re.MULTILINE)
    port = str(processes.free_port())
    told = dict(pair.split("=", 1) for pair in shlex.split(variables))
    store = folder / "bentoml"
    for name in ("envs", "tmp"):  # the Dockerfile makes them
        (store / name).mkdir(exist_ok=True)
    free = tmp_path / "tmp"
    free.mkdir()
    told = {name: value.replace("/tmp", str(free)) for name, value in told.items()} | {"BENTOML_HOME": str(store)}
    arguments = shlex.split(command.replace(",", ""))[1:]
    arguments[arguments.index("3000")], arguments[arguments.index("0.0.0.0")] = port, "127.0.0.1"
    bentoml = [sys.executable, "-m", "bentoml", *arguments]
    server = subprocess.Popen(
        ["unshare", "--mount", "--map-root-user", "bash", "-c", READ_ONLY, "-", str(free), *bentoml],
        env={**os.environ, **told, "TMPDIR": str(free)},
        cwd=Path("/"),
        start_new_session=True,
        stdout=(tmp_path / "said").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        answer = None
        give_up = time.monotonic() + 60
        while answer is None and time.monotonic() < give_up and server.poll() is None:
            try:
                found = httpx.post(f"http://127.0.0.1:{port}/generate", json={"prompt": "la"})
                answer = found if found.is_success else None
            except httpx.TransportError:
                time.sleep(0.1)
        assert answer is not None, (tmp_path / "said").read_text()
        assert answer.headers["x-model-digest"] == bundle.digest
    finally:
        processes.stop(server.pid)
        server.wait()
