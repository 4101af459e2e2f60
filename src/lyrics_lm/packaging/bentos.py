"""BentoML's side of a version: its bundle in the model store, the Bento around it, and a real start of both."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np

from lyrics_lm import bundle, durable, processes, signing, source
from lyrics_lm.bundle import Bundle
from lyrics_lm.errors import BundleError, DeliveryError
from lyrics_lm.inference.sampler import log_softmax
from lyrics_lm.packaging import bill

NAME = "lyrics-lm"
BUNDLE_FOLDER = "bundle"  # inside a model of the store, beside BentoML's own model.yaml
SERVICE = "lyrics_lm.serving.service:service"
ENVIRONMENT = {"BENTOML_DO_NOT_TRACK": "true"}

_REQUIREMENTS = (
    "bentoml",
    "httptools",
    "msgspec",
    "numpy",
    "onnxruntime",
    "prometheus-client",
    "pydantic",
    "tokenizers",
    "uvloop",
)
_START_SECONDS = 60
_KEYS = "LYRICS_LM_API_KEYS"  # of the service that is live: this one is asked from here alone
_TOP = 5
_TOLERANCE = 1e-3  # of log-probabilities that went through JSON


def folder(home: Path) -> Path:
    """BENTOML_HOME of this home."""
    return home / "bentoml"


def tag(digest: str) -> str:
    """The BentoML tag of a bundle: its own in the model store, and its Bento's."""
    return f"{NAME}:{digest[:12]}"


def import_model(home: Path, candidate: Bundle) -> str:
    """Put a bundle into the model store, if it is not there; returns its tag."""
    store = _bentoml(home)
    name = tag(candidate.digest)
    known = stored(home, candidate.digest)
    if known is None or _signature(known) != _signature(candidate):
        _forget(home, "models", name)
        labels = {"digest": candidate.digest, "architecture": candidate.manifest.architecture}
        with durable.room_for(folder(home)), store.models.create(name, labels=labels) as model:
            shutil.copytree(candidate.path, Path(model.path) / BUNDLE_FOLDER)
    return name


def stored(home: Path, digest: str) -> Bundle | None:
    """The bundle of this digest in the model store; None when it is not there, or not whole."""
    store = _bentoml(home)
    try:
        read = bundle.read(Path(store.models.get(tag(digest)).path) / BUNDLE_FOLDER)
    except (store.exceptions.BentoMLException, BundleError):  # not there, or half written
        return None
    return read if read.digest == digest else None


def _signature(of: Bundle) -> bytes:
    file = of.path / bundle.SIGNATURE
    return file.read_bytes() if file.is_file() else b""


def build(home: Path, candidate: Bundle, number: int) -> str:
    """Build the Bento of an imported bundle, its bill of materials inside, if there is none; returns its tag."""
    store = _bentoml(home)
    name = tag(candidate.digest)
    if built(home, candidate.digest):
        return name
    _forget(home, "bentos", name)
    with tempfile.TemporaryDirectory() as context, durable.room_for(folder(home)):
        source.copy(source.SERVING, Path(context))
        wanted = _wanted(candidate)
        (Path(context) / bill.FILE).write_text(bill.bill(candidate, bill.closure(wanted), wanted))
        store.bentos.build(
            SERVICE,
            name=NAME,
            version=candidate.digest[:12],
            labels={"digest": candidate.digest, "version": str(number)},
            models=[name],
            python={"packages": requirements(candidate), "lock_packages": False},
            build_ctx=context,
        )
        durable.write(_built(home, name), b"")
    return name


def built(home: Path, digest: str) -> bool:
    """Whether there is a whole Bento of that bundle."""
    return _built(home, tag(digest)).is_file()


def validate(home: Path, candidate: Bundle) -> str | None:
    """Start the Bento for real on a free port and ask it; returns what is wrong with it, if anything.

    Raises `DeliveryError` when something killed it: that says nothing about the Bento.
    """
    with _running(home, tag(candidate.digest)) as (url, server):
        return _wait_ready(url, server) or _ask(url, candidate)


def requirements(of: Bundle) -> list[str]:
    """The serving libraries and all that they need, pinned to the versions that the bundle was tried with here."""
    return [f"{library.name}=={library.version}" for library in bill.closure(_wanted(of))]


def _wanted(of: Bundle) -> tuple[str, ...]:
    """What the service imports; for a signed bundle, what verifies it too."""
    return (*_REQUIREMENTS, *(signing.LIBRARIES if signing.is_signed(of) and signing.available() else ()))


@contextmanager
def _running(home: Path, name: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A Bento being served: its address and its process, which is stopped at the end."""
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bentoml", "serve", name, "--host", "127.0.0.1", "--port", str(port)]
    log = home / "logs" / "validate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        server = subprocess.Popen(
            command,
            cwd=folder(home),
            env={**os.environ, **serving_environment(home), **processes.mark(home, "validation"), _KEYS: ""},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield url, server
    finally:
        processes.stop(server.pid)
        server.wait()


def serving_environment(home: Path) -> dict[str, str]:
    """What a BentoML process of this home needs in its environment."""
    return {**ENVIRONMENT, "BENTOML_HOME": str(folder(home)), "OMP_NUM_THREADS": "1"}


def _wait_ready(url: str, server: "subprocess.Popen[bytes]") -> str | None:
    """Wait until it takes requests; returns what is wrong with it when it never does."""
    give_up = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up:
        if server.poll() is not None:
            if server.returncode < 0:
                raise DeliveryError("the Bento was killed while it was tried; run the delivery again")
            return f"the Bento ended with exit code {server.returncode}; see logs/validate.log"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=2).is_success:
                return None
        time.sleep(0.05)
    return f"the Bento did not become ready within {_START_SECONDS} s; see logs/validate.log"


def _ask(url: str, candidate: Bundle) -> str | None:
    """Compare the served log-probabilities with those of the known answer."""
    known = candidate.manifest.known_answer
    body = {"prompt": list(known.tokens), "max_tokens": 1, "temperature": 0, "logprobs": _TOP}
    try:
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=20)
    except httpx.HTTPError as error:
        return f"the Bento did not answer a completion ({type(error).__name__})"
    if not answer.is_success:
        return f"the Bento answered a completion with status {answer.status_code}"
    if answer.headers["x-model-digest"] != candidate.digest:
        return f"the Bento serves {answer.headers['x-model-digest'][:12]} instead of {candidate.digest[:12]}"
    served = sorted(answer.json()["choices"][0]["logprobs"]["top_logprobs"][0].values(), reverse=True)
    expected = np.sort(log_softmax(np.array(known.last)))[::-1]
    difference = float(np.abs(np.array(served[:_TOP]) - expected[: len(served[:_TOP])]).max())
    if difference > _TOLERANCE:
        return f"the Bento's answer differs from the known answer by {difference:.2g}"
    return None


def _built(home: Path, name: str) -> Path:
    """The file that says that a Bento was built to its end. BentoML copies it into its store file by
    file, so that after a kill a part of it may be there."""
    return folder(home) / "built" / name.replace(":", "-")


def _forget(home: Path, store: str, name: str) -> None:
    """Drop a half-written model or Bento of that tag, left by a kill."""
    shutil.rmtree(folder(home) / store / name.replace(":", "/"), ignore_errors=True)


def _bentoml(home: Path) -> ModuleType:
    """BentoML, bound to the stores of this home.

    BentoML reads its home once per process, and keeps the stores that it opened there; binding all of them at each
    call lets one process serve several homes.
    """
    os.environ.update(serving_environment(home))
    for store in ("bentos", "models", "tmp"):
        (folder(home) / store).mkdir(parents=True, exist_ok=True)
    import bentoml
    from bentoml._internal.bento import BentoStore
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    BentoMLContainer.bentoml_home.set(str(folder(home)))
    BentoMLContainer.bento_store.set(BentoStore(str(folder(home) / "bentos")))
    BentoMLContainer.tmp_bento_store.set(BentoStore(str(folder(home) / "tmp")))
    BentoMLContainer.model_store.set(ModelStore(str(folder(home) / "models")))
    return bentoml
