"""The Lambda package, really built, and really run by a bare Python against a local runtime API."""

import json
import time
import zipfile

import pytest

from bundles import stateful_bundle
from lambda_runtime import Function, rest_event, url_event
from lyrics_lm.errors import DeliveryError
from lyrics_lm.packaging import function

PYTHON = "3.11"  # the one that runs here; Lambda's own is a setting


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def of(home):
    return stateful_bundle(home / "bundle")


@pytest.fixture(scope="module")
def package(home, of):
    return function.build(home, of, python=PYTHON, architecture="x86_64")


@pytest.fixture(scope="module")
def live(package, tmp_path_factory):
    """The package under awslambdaric, with nothing else to import."""
    running = Function(package.path, tmp_path_factory.mktemp("task"), function.HANDLER)
    yield running
    running.stop()


def test_a_package_fits_a_direct_upload(package):
    """Under 50 MB zipped and 250 MB unzipped, and the table says what takes the room."""
    assert package.zipped < function.DIRECT_LIMIT
    assert package.unzipped < function.UNZIPPED_LIMIT
    assert package.parts[0].name == "onnxruntime"
    assert package.unzipped == sum(entry.file_size for entry in zipfile.ZipFile(package.path).infolist())


def test_a_package_is_the_same_byte_for_byte(home, of, package):
    """Built at another time it has the same digest."""
    assert function.build(home, of, python=PYTHON, architecture="x86_64").sha256 == package.sha256


def test_a_package_too_large_is_refused_with_the_table(home, of, package, monkeypatch):
    """Before anything is uploaded."""
    monkeypatch.setattr(function, "UNZIPPED_LIMIT", 1_000_000)
    with pytest.raises(DeliveryError, match="onnxruntime"):
        function.build(home, of, python=PYTHON, architecture="x86_64")


def test_a_completion_is_answered_in_openais_shape(live, of):
    """The same seed gives the same text, and the headers say which bundle wrote it."""
    body = {"prompt": "love", "max_tokens": 12, "seed": 1}
    answer = live.ask(url_event("POST", "/v1/completions", json.dumps(body)))
    assert answer["headers"]["x-model-digest"] == of.digest
    text = json.loads(answer["body"])["choices"][0]["text"]
    assert len(text) == 12
    assert live.post("/v1/completions", body)[1]["choices"][0]["text"] == text


def test_a_rest_api_is_understood_too(live):
    """Version 1 of API Gateway's payload."""
    answer = live.ask(rest_event("POST", "/generate", '{"prompt": "love"}'))
    assert len(json.loads(answer["body"])["text"]) == 300


def test_a_stream_comes_whole(live):
    """Its frames are those of the service, all at once."""
    answer = live.ask(url_event("POST", "/v1/completions", '{"prompt": "la", "stream": true}'))
    assert answer["headers"]["content-type"] == "text/event-stream"
    assert answer["body"].endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/completions", {"prompt": "a", "temperature": 3}, 400, "temperature: Input should be less than"),
        ("/v1/completions", {"model": "gpt"}, 404, "The model 'gpt' does not exist"),
        ("/v1/completions", {"prompt": [99]}, 400, "token 99 is not in this version's vocabulary"),
        ("/generate", {"promt": "a"}, 400, "prompt: Field required"),
        ("/generate", "no json", 400, "the body is not JSON"),
        ("/elsewhere", {}, 404, "POST /elsewhere is not part of this API"),
    ],
)
def test_errors_are_those_of_the_service(live, path, body, status, message):
    """In OpenAI's shape, with the field at fault."""
    seen, answer = live.post(path, body)
    assert seen == status
    assert message in answer["error"]["message"]


def test_it_starts_within_seconds(package, tmp_path):
    """From the start of the process to the first token; printed, with the milliseconds per token."""
    running = Function(package.path, tmp_path, function.HANDLER)
    try:
        running.post("/v1/completions", {"prompt": "la", "max_tokens": 1})
        cold = time.monotonic() - running.began
        began = time.monotonic()
        running.post("/v1/completions", {"prompt": "la", "max_tokens": 500})
        each = (time.monotonic() - began) * 2
    finally:
        running.stop()
    print(f"cold start {cold:.2f} s, {each:.2f} ms per token")
    assert cold < 20
