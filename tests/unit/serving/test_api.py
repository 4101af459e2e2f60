import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from bundles import VOCAB, bigram_bundle, stateful_bundle, table
from lyrics_lm import durable
from lyrics_lm.corpus import verbatim
from lyrics_lm.inference import scheduler as scheduling
from lyrics_lm.inference.generator import Generator
from lyrics_lm.serving.lines import KnownLines
from lyrics_lm.serving.types import MAX_BODY_BYTES, MAX_TOKENS
from servers import Server, serving

SIZE = len(VOCAB) + 1


class Changed(Generator):
    """A generator whose batches take each turn by way of `turn(batch, number)`."""

    def __init__(self, made, turn):
        super().__init__(made)
        self._turn = turn
        self.turns = 0

    def batch(self):
        batch = super().batch()
        plain = batch.turn

        def turn():
            self.turns += 1
            self._turn(self.turns)
            return plain()

        batch.turn = turn
        return batch


def paced(made):
    """A generator that takes 5 ms for each turn: for each token, where the bundle has a state."""
    return Changed(made, lambda _: time.sleep(0.005))


def faulty(made, after):
    """A generator that fails after so many turns."""

    def turn(number):
        if number > after:
            raise ZeroDivisionError("secret")

    return Changed(made, turn)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return serving(Generator(bigram_bundle(tmp_path_factory.mktemp("bundles") / "tiny")))


@pytest.fixture(scope="module")
def server(tiny):
    with Server(tiny) as running:
        yield running


@pytest.fixture
def empty():
    with Server(None) as running:
        yield running


def joined(frames):
    """What a stream says in all, in the form of a whole answer's choices."""
    choices = {}
    for frame in frames:
        for part in frame["choices"]:
            whole = choices.setdefault(part["index"], {"index": part["index"], "text": "", "logprobs": None})
            whole["text"] += part["text"]
            whole["finish_reason"] = part["finish_reason"]
            for key, values in (part["logprobs"] or {}).items():
                whole["logprobs"] = whole["logprobs"] or {}
                whole["logprobs"][key] = (whole["logprobs"].get(key) or []) + values if values is not None else None
    return [choices[index] for index in sorted(choices)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 3},
        {"echo": True, "logprobs": 2},
        {"logprobs": 0},
        {"echo": True, "max_tokens": 0, "logprobs": 1},
        {"max_tokens": 0},
        {"stop": ["e", "o"]},
        {"prompt": ["love", "oh my"], "n": 2, "temperature": 0.5, "top_p": 0.9},
        {"prompt": [[5, 6], [7]]},
        {"prompt": ""},
    ],
)
def test_a_stream_says_what_a_whole_answer_says(server, body):
    """The same seed gives the same text, scores and finish reasons, streamed or not."""
    body = {"prompt": "love is", "max_tokens": 40, "seed": 11, **body}
    frames, whole = server.stream(**body), server.ask(**body)
    assert joined(frames) == sorted(whole["choices"], key=lambda choice: choice["index"])
    assert {frame["object"] for frame in frames} == {"text_completion"}
    assert len({frame["id"] for frame in frames}) == 1


BREAKS = "\n\r\v\f\x1c\x85\u2028\u2029"  # each ends a line for somebody


@pytest.fixture(scope="module")
def breaking(tmp_path_factory):
    """Serves a model that writes little but line breaks, control characters and what looks like a frame."""
    made = bigram_bundle(tmp_path_factory.mktemp("bundles") / "breaking", vocab=BREAKS + '\0\x1b"\\dat: é\U0001f3b5')
    with Server(serving(Generator(made))) as running:
        yield running


@settings(max_examples=60, deadline=None)
@given(prompt=st.text(max_size=30), seed=st.integers(0, 2**31), n=st.integers(1, 3), echo=st.booleans())
def test_whatever_is_written_a_frame_is_one_line(breaking, prompt, seed, n, echo):
    """The stream holds together for clients that split lines at any Unicode break, and for OpenAI's."""
    body = {"prompt": prompt, "seed": seed, "n": n, "echo": echo, "max_tokens": 20}
    whole = [choice["text"] for choice in breaking.ask(**body)["choices"]]
    with breaking.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines.pop() == "data: [DONE]"
    frames = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [choice["text"] for choice in joined(frames)] == whole
    with openai.OpenAI(base_url=f"{breaking.url}/v1", api_key="none", max_retries=0, timeout=20) as client:
        parts = list(client.completions.create(model="lyrics-lm", stream=True, extra_body=body, prompt=prompt))
    assert [choice["text"] for choice in joined([part.model_dump() for part in parts])] == whole


def test_an_answer_has_openais_shape(server, tiny):
    """Id, model, usage and finish reason; the id holds the request's."""
    answer = server.post(prompt="love", max_tokens=7)
    body = answer.json()
    assert body["id"] == f"cmpl-{answer.headers['x-request-id']}"
    assert (body["object"], body["model"]) == ("text_completion", "lyrics-lm")
    assert body["system_fingerprint"] == tiny.version.digest[:12]
    assert abs(body["created"] - time.time()) < 5
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 7, "total_tokens": 11}
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert len(choice["text"]) == 7


def test_frames_arrive_while_text_is_drawn(tmp_path):
    """The first frame comes long before the last."""
    with Server(serving(paced(stateful_bundle(tmp_path / "b")))) as server:
        times = []
        body = {"prompt": "la", "max_tokens": 60, "stream": True}
        with server.client.stream("POST", "/v1/completions", json=body) as answer:
            times.extend(time.monotonic() for line in answer.iter_lines() if line)
    assert len(times) > 20
    assert times[-1] - times[0] > 0.2


def test_usage_is_streamed_when_asked_for(server):
    """As a last frame without choices."""
    frames = server.stream(prompt="la", max_tokens=3, n=2, stream_options={"include_usage": True})
    assert frames[-1]["choices"] == []
    assert frames[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}
    assert all(frame["usage"] is None for frame in frames[:-1])


def test_a_seed_fixes_the_text(server):
    """Again the same, another seed another, and the choices of one request differ."""
    first, again, other = (server.ask(prompt="la", max_tokens=40, seed=seed, n=2)["choices"] for seed in (1, 1, -1))
    assert first == again
    assert len({choice["text"] for choice in (*first, *other)}) == 4


def test_a_prompt_gets_the_same_text_alone_and_in_a_list(server):
    """Same seed, prompt and version give the same text, whatever is asked beside it."""
    body = {"max_tokens": 30, "seed": 8, "n": 2}
    together = server.ask(prompt=["love is", "oh"], **body)["choices"]
    alone = [server.ask(prompt=prompt, **body)["choices"] for prompt in ("love is", "oh")]
    assert [choice["index"] for choice in together] == [0, 1, 2, 3]
    assert [choice["text"] for choice in together] == [choice["text"] for part in alone for choice in part]


def test_token_ids_are_a_prompt(server, tiny):
    """The same ids give the same text as the words they stand for; an empty list is the start of a song."""
    ids = tiny.generator.vocabulary.encode("love is")
    body = {"seed": 3, "max_tokens": 20}
    words = server.ask(prompt="love is", **body)
    numbers = server.ask(prompt=ids, **body)
    assert numbers["choices"] == words["choices"]
    assert numbers["usage"]["prompt_tokens"] == 7
    assert server.ask(prompt=[[]], **body)["choices"] == server.ask(prompt="", **body)["choices"]


def test_no_prompt_is_the_start_of_a_song(server):
    """Absent, null and empty mean the same, as with OpenAI."""
    texts = [server.ask(seed=3, **body)["choices"][0]["text"] for body in ({}, {"prompt": None}, {"prompt": ""})]
    assert len(set(texts)) == 1
    assert len(texts[0]) == 16


def test_stop_strings_end_a_text(server):
    """What is shown is the text up to the stop string, and the reason is `stop`."""
    whole = server.ask(prompt="la", seed=4, max_tokens=200)["choices"][0]["text"]
    stop = whole[50:53]
    (choice,) = server.ask(prompt="la", seed=4, max_tokens=200, stop=stop)["choices"]
    assert choice["text"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"


def test_echo_and_logprobs_describe_the_whole_text(server):
    """The prompt comes first; offsets find every token in the text; scores are the model's."""
    (choice,) = server.ask(prompt="la la", seed=4, max_tokens=20, echo=True, logprobs=2)["choices"]
    text, scores = choice["text"], choice["logprobs"]
    assert text.startswith("la la")
    assert len(text) == 25
    for token, offset in zip(scores["tokens"], scores["text_offset"], strict=True):
        assert text[offset : offset + len(token)] == token
    expected = log_softmax(table(SIZE, 0).astype(np.float64), axis=-1)
    ids = [VOCAB.index(character) + 1 for character in text]
    assert scores["token_logprobs"][0] is None
    assert scores["top_logprobs"][0] is None
    assert scores["token_logprobs"][1:] == pytest.approx([expected[pair] for pair in itertools.pairwise(ids)])
    assert all(len(table) in (2, 3) for table in scores["top_logprobs"][1:])


def test_fields_that_ask_for_nothing_are_taken(server):
    """Clients send them with their defaults."""
    server.ask(prompt="la", suffix=None, best_of=1, logit_bias={}, frequency_penalty=0, presence_penalty=0, user="me")
    server.ask(prompt="la", n=None, stop=None, seed=None, temperature=None, top_p=None, max_tokens=None, echo=None)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"max_token": 5}, "max_token", "Unrecognized request argument supplied: max_token"),
        ({"max_tokens": "many"}, "max_tokens", "valid integer"),
        ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
        ({"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
        ({"max_tokens": MAX_TOKENS + 1}, "max_tokens", f"less than or equal to {MAX_TOKENS}"),
        ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
        ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"top_p": 1.01}, "top_p", "less than or equal to 1"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 17}, "n", "less than or equal to 16"),
        ({"prompt": ["a"] * 33, "n": 2}, None, "more than 64 completions"),
        ({"best_of": 2}, None, "best_of other than n"),
        ({"stop": ""}, "stop", "none of them empty"),
        ({"stop": ["a", ""]}, "stop", "none of them empty"),
        ({"stop": ["a"] * 5}, "stop", "one to four"),
        ({"stop": 5}, "stop", "valid string"),
        ({"seed": 2**63}, "seed", "less than"),
        ({"seed": 1.5}, "seed", "valid integer"),
        ({"stream": "perhaps"}, "stream", "valid boolean"),
        ({"logprobs": 21}, "logprobs", "less than or equal to 20"),
        ({"suffix": "end"}, "suffix", "None"),
        ({"logit_bias": {"50": 1}}, "logit_bias", "at most 0"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "less than or equal to 0"),
        ({"presence_penalty": -0.5}, "presence_penalty", "greater than or equal to 0"),
        ({"prompt": 5}, "prompt", "valid string"),
        ({"prompt": [True]}, "prompt", "prompt"),
        ({"prompt": []}, None, "prompt is an empty list"),
        ({"prompt": "x" * 100_001}, "prompt", "at most 100000"),
        ({"prompt": [SIZE]}, "prompt", f"token {SIZE} is not in this version's vocabulary of {SIZE}"),
        ({"prompt": [[1], [2, 10**30]]}, "prompt", "not in this version's vocabulary"),
        ({"prompt": [-1]}, "prompt", "prompt: "),
    ],
)
def test_a_bad_field_is_named(server, body, param, message):
    """With a 400 in OpenAI's error shape, the field and what it may be; streamed or not."""
    for stream in ({}, {"stream": True}):
        answer = server.post(**{"prompt": "la", **stream, **body})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert message in error["message"]


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe\xfd", 400, "not JSON"),
        (b"[" * 200_000, 400, "not JSON"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", 400, "not JSON"),
        (b"[]", 400, "dictionary"),
        (b"null", 400, "dictionary"),
        (b'{"temperature": NaN}', 400, "temperature"),
        (b'{"temperature": Infinity}', 400, "temperature"),
        (b'{"prompt": "\\ud800"}', 400, "prompt"),
        (b'{"\\ud800": 1}', 400, "unicode"),
        (b'{"prompt": "' + b"x" * MAX_BODY_BYTES + b'"}', 413, "larger than"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/generate"])
def test_a_broken_body_is_refused(server, path, content, status, message):
    """Whatever the bytes, the answer is one line in OpenAI's error shape."""
    answer = server.client.post(path, content=content)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    if path == "/v1/completions":
        assert message in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/completions", 404),
        ("GET", "/nothing", 404),
        ("GET", "/page/nothing.js", 404),
        ("GET", "/page/../api.py", 404),
        ("GET", "/page/%2e%2e/api.py", 404),
        ("GET", "/generate", 405),
        ("POST", "/", 405),
    ],
)
def test_an_unknown_path_is_an_error_of_openais_shape(server, method, path, status):
    """Also outside `/v1` and for a method that a path does not take."""
    answer = server.client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"]


def test_an_unknown_model_is_not_found(server, tiny):
    """Its own name and the live version's digest are known; another is OpenAI's `model_not_found`."""
    server.ask(prompt="la", model="lyrics-lm")
    server.ask(prompt="la", model=tiny.version.digest)
    assert server.client.get(f"/v1/models/{tiny.version.digest}").json()["id"] == "lyrics-lm"
    for answer in (server.post(prompt="la", model="gpt-2"), server.client.get("/v1/models/gpt-2")):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"


def test_the_live_version_is_listed(server, tiny):
    """`/v1/models` tells version, digest, bits per character, since when and why."""
    listed = server.client.get("/v1/models").json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    assert model == server.client.get("/v1/models/lyrics-lm").json()
    assert (model["id"], model["object"], model["created"]) == ("lyrics-lm", "model", 1001)
    assert (model["version"], model["digest"]) == (1, tiny.version.digest)
    assert (model["bits_per_char"], model["since"]) == (4.0, 1001.0)
    assert model["reason"] == "version 1 was better"


def test_before_the_first_version_there_is_a_503(empty, tiny):
    """With a time to come back; the page and the empty list of models are there already."""
    assert empty.client.get("/v1/models").json() == {"object": "list", "data": []}
    for answer in (
        empty.post(prompt="la"),
        empty.post(prompt="la", stream=True),
        empty.client.post("/generate", json={"prompt": "la"}),
        empty.client.get("/v1/models/lyrics-lm"),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["error"]["type"] == "server_error"
        assert "x-request-id" in answer.headers
        assert "x-model-digest" not in answer.headers
    assert empty.client.get("/").status_code == 200
    empty.swap(tiny)
    empty.ask(prompt="la")


def test_every_answer_carries_its_request_id_and_the_versions_digest(server, tiny):
    """Errors, page and files included; no two requests share an id."""
    answers = [
        server.post(prompt="la"),
        server.post(prompt="la", stream=True),
        server.post(prompt=5),
        server.client.post("/generate", json={"prompt": "la"}),
        *(server.client.get(path) for path in ("/", "/page/page.js", "/v1/models", "/v1/nothing", "/nothing")),
    ]
    assert {answer.headers["x-model-digest"] for answer in answers} == {tiny.version.digest}
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_a_fault_of_ours_is_a_500_with_the_request_id(tmp_path):
    """The client gets a number to report, not a traceback; the service goes on."""
    with Server(serving(faulty(stateful_bundle(tmp_path / "b"), 0))) as server:
        answer = server.post(prompt="la")
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert error["type"] == "server_error"
        assert answer.headers["x-request-id"] in error["message"]
        assert "secret" not in answer.text
        assert server.client.get("/v1/models").status_code == 200


def test_a_fault_in_the_middle_of_a_stream_is_told_in_it(tmp_path):
    """The `openai` client raises what the last frame says, instead of taking half a text for a whole one."""
    with Server(serving(faulty(stateful_bundle(tmp_path / "b"), 1))) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        stream = client.completions.create(model="lyrics-lm", prompt="la", stream=True)
        assert next(stream).choices[0].text
        with pytest.raises(openai.APIError, match="the service failed"):
            next(stream)


def test_generate_is_the_one_field_api(server):
    """A prompt in, a text out; any other field is refused."""
    answer = server.client.post("/generate", json={"prompt": "love is"})
    assert list(answer.json()) == ["text"]
    assert len(answer.json()["text"]) == 300
    refused = server.client.post("/generate", json={"prompt": "love is", "temperature": 1})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "temperature"
    assert server.client.post("/generate", json={}).json()["error"]["param"] == "prompt"


def test_one_record_is_kept_for_each_prompt(server, tiny):
    """With what was asked, the first choice's text without the echo, and how it ended."""
    answer = server.post(prompt=["love", "oh"], n=2, seed=5, max_tokens=9, echo=True, user="me")
    first, second = server.recorded(answer)
    assert (first.prompt, second.prompt) == ("love", "oh")
    assert (first.prompt_tokens, second.prompt_tokens) == (4, 2)
    assert first.text == answer.json()["choices"][0]["text"].removeprefix("love")
    assert second.text == answer.json()["choices"][2]["text"].removeprefix("oh")
    for record in (first, second):
        assert (record.tokens, record.finish, record.digest) == (9, "length", tiny.version.digest)
        assert record.params == {"n": 2, "seed": 5, "max_tokens": 9, "echo": True}
        assert abs(record.time - time.time()) < 5
        assert 0 < record.seconds < 5


def test_a_stream_and_the_one_field_api_are_recorded_too(server):
    """Whatever way a text was asked for."""
    (streamed,) = server.recorded(server.post(prompt="la", stream=True, max_tokens=5))
    assert (streamed.tokens, streamed.finish) == (5, "length")
    (record,) = server.recorded(server.client.post("/generate", json={"prompt": "la"}))
    assert (record.prompt, record.tokens) == ("la", 300)


def test_a_client_that_leaves_stops_the_generation(tmp_path):
    """Soon after, and the record says `cancelled` with the text as far as it got."""
    generator = paced(stateful_bundle(tmp_path / "b"))
    with Server(serving(generator)) as server:
        body = {"prompt": "la", "max_tokens": 2000, "stream": True, "n": 2}
        with server.client.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            for _ in range(5):
                next(lines)
        (record,) = server.recorded(answer)
        assert record.finish == "cancelled"
        assert 0 < len(record.text) < 500
        time.sleep(0.05)
        turns = generator.turns
        time.sleep(0.1)
        assert generator.turns == turns < 1000


def events(lines):
    """Server-sent events as (name, data), the counters that come each second left out."""
    return ((name, data) for name, data in every_event(lines) if name != "activity")


def every_event(lines):
    name = None
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_events_tell_what_the_service_does(server):
    """Requests and tokens are counted as they are answered, and shown within a second or two."""
    with server.client.stream("GET", "/events") as answer:
        heard = (data for name, data in every_event(answer.iter_lines()) if name == "activity")
        before = next(heard)
        server.ask(prompt="la", max_tokens=50)
        after = [next(heard), next(heard)][-1]
        assert after["requests"] - before["requests"] == 1
        assert after["tokens"] - before["tokens"] == 50
        assert after["batch_size"] == 0


def test_events_tell_what_is_live_and_what_is_in_training(server, tiny, tmp_path):
    """Both at once on connecting; then each takeover as it happens, and training as it goes on."""
    other = serving(Generator(stateful_bundle(tmp_path / "other")), number=2)
    with Server(tiny) as server:
        server.training = b'{"step": 1}'
        with server.client.stream("GET", "/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            heard = events(answer.iter_lines())
            began = time.monotonic()
            name, first = next(heard)
            assert (name, first["version"], first["digest"]) == ("live", 1, tiny.version.digest)
            assert next(heard) == ("training", {"step": 1})
            server.swap(other)
            name, second = next(heard)
            assert (name, second["version"], second["reason"]) == ("live", 2, "version 2 was better")
            assert time.monotonic() - began < 0.9
            server.training = None
            assert next(heard) == ("training", None)


def test_events_tell_how_a_trial_stands(server):
    """On connecting, at each change of share or evidence, and that it is over; without one, nothing."""
    server.trial = b'{"version": 2, "share": 5}'
    try:
        with server.client.stream("GET", "/events") as answer:
            heard = (data for name, data in events(answer.iter_lines()) if name == "trial")
            assert next(heard) == {"version": 2, "share": 5}
            server.trial = b'{"version": 2, "share": 25}'
            assert next(heard) == {"version": 2, "share": 25}
            server.trial = None
            assert next(heard) is None
    finally:
        server.trial = None


def test_events_before_the_first_version(empty, tiny):
    """Nothing is live, and nothing in training, until something is."""
    with empty.client.stream("GET", "/events") as answer:
        heard = events(answer.iter_lines())
        assert [next(heard), next(heard)] == [("live", None), ("training", None)]
        empty.swap(tiny)
        name, data = next(heard)
        assert (name, data["version"]) == ("live", 1)


def test_a_stream_ends_on_the_version_it_began_with(tiny, tmp_path):
    """A swap in the middle of an answer changes nothing of it; the next request meets the new version."""
    old = serving(paced(stateful_bundle(tmp_path / "old")))
    new = serving(Generator(bigram_bundle(tmp_path / "new")), number=2)
    body = {"prompt": "la", "max_tokens": 60, "seed": 1}
    with Server(old) as server:
        whole = server.ask(**body)["choices"][0]["text"]
        with server.client.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
            lines = (line for line in answer.iter_lines() if line)
            frames = [next(lines)]
            server.swap(new)
            frames.extend(lines)
        assert answer.headers["x-model-digest"] == old.version.digest
        assert frames.pop() == "data: [DONE]"
        texts = [json.loads(frame.removeprefix("data: ")) for frame in frames]
        assert "".join(text["choices"][0]["text"] for text in texts) == whole
        assert {text["system_fingerprint"] for text in texts} == {old.version.digest[:12]}
        after = server.post(**body)
        assert after.headers["x-model-digest"] == new.version.digest
        assert after.json()["choices"][0]["text"] != whole


class Assets(HTMLParser):
    """What a page loads, and whether anything in it is inline."""

    def __init__(self):
        super().__init__()
        self.paths, self.inline = [], []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag in ("link", "script", "img"):
            self.paths.append(named.get("href") or named.get("src"))
        self.inline += [name for name in named if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" else []


def test_the_page_and_all_it_loads_are_served(server):
    """From this server alone, under a policy that forbids anything inline or foreign."""
    answer = server.client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assets = Assets()
    assets.feed(answer.text)
    assert len(assets.paths) >= 3
    assert assets.inline == []
    for path in assets.paths:
        loaded = server.client.get(path)
        assert loaded.status_code == 200, path
        assert loaded.content
    assert "javascript" in server.client.get("/page/page.js").headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/page/page.js"])
def test_a_new_release_of_the_page_shows_at_once(server, path):
    """A browser must ask each time, and is told when nothing changed."""
    assert server.client.get(path).headers["cache-control"] == "no-cache"
    etag = server.client.get("/page/page.js").headers["etag"]
    assert server.client.get("/page/page.js", headers={"if-none-match": etag}).status_code == 304


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=20) as made:
        yield made


def test_the_openai_client_gets_whole_answers(client):
    """Choices, scores, stop strings and seeds, read by the client's own types."""
    asked = {"model": "lyrics-lm", "prompt": "love is", "max_tokens": 30, "seed": 2}
    answer = client.completions.create(**asked, n=3, logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.text for choice in answer.choices}) == 3
    assert len(answer.choices[0].logprobs.token_logprobs) == 30
    assert answer.usage.completion_tokens == 90
    text = client.completions.create(**asked).choices[0].text
    assert text == answer.choices[0].text
    stopped = client.completions.create(**asked, stop=[text[10:12]]).choices[0]
    assert stopped.text == text[: text.index(text[10:12])]
    assert stopped.finish_reason == "stop"


def test_the_openai_client_streams(client):
    """The parts join to the text of the same seed."""
    asked = {"model": "lyrics-lm", "prompt": "love is", "max_tokens": 30, "seed": 2}
    parts = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.text for part in parts for choice in part.choices)
    assert text == client.completions.create(**asked).choices[0].text
    assert parts[-1].usage.completion_tokens == 30


def test_the_openai_client_lists_models(client):
    """The live one."""
    assert [model.id for model in client.models.list()] == ["lyrics-lm"]
    assert client.models.retrieve("lyrics-lm").owned_by == "lyrics-lm"


def test_the_openai_client_knows_our_errors(client, empty):
    """Each status becomes the class that its users catch, with message and field."""
    with pytest.raises(openai.BadRequestError, match="temperature") as refused:
        client.completions.create(model="lyrics-lm", prompt="la", temperature=3)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="gpt-2", prompt="la")
    assert missing.value.code == "model_not_found"
    with (
        openai.OpenAI(base_url=f"{empty.url}/v1", api_key="none", max_retries=0) as early,
        pytest.raises(openai.InternalServerError, match="no version is live yet"),
    ):
        early.completions.create(model="lyrics-lm", prompt="la")


def test_too_many_texts_at_once_are_turned_away(tmp_path, monkeypatch):
    """A full queue is a 429 in OpenAI's shape that says when to come back; what was taken is answered."""
    monkeypatch.setattr(scheduling, "LANES", 1)
    monkeypatch.setattr(scheduling, "QUEUE", 2)
    with Server(serving(paced(stateful_bundle(tmp_path / "b")))) as server, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: server.post(prompt="la", max_tokens=30), range(6)))
    turned_away = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert turned_away[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert turned_away[0].headers["retry-after"]


def test_top_k_is_taken(server):
    """As an extension that many servers have: the likeliest token alone is what temperature 0 gives."""
    likeliest = server.ask(prompt="la", max_tokens=20, top_k=1)["choices"][0]["text"]
    assert likeliest == server.ask(prompt="la", max_tokens=20, temperature=0)["choices"][0]["text"]


def test_lines_of_training_songs_are_named(server, tmp_path):
    """With a song that has each; null until the gates have left an index, and by the newest one after that."""
    asked = {"text": "a line of somebody else\nnothing that anyone sang\n  a line of somebody else "}
    server.known_lines = KnownLines(tmp_path / "index")
    assert server.client.post("/lines", json=asked).json() == {"lines": None}
    for number, text in enumerate(["a line of somebody else", "other words in its place"]):
        with durable.directory(tmp_path / "index") as draft:
            verbatim.build([text], [f"song {number}"]).save(draft, f"corpus {number}")
        expected = {"a line of somebody else": "song 0"} if number == 0 else {}
        assert server.client.post("/lines", json=asked).json() == {"lines": expected}
    assert server.client.post("/lines", json={"texts": ""}).status_code == 400


@pytest.mark.parametrize("path", ["/v1/completions", "/generate", "/lines", "/v1/models", "/", "/events/none"])
def test_no_other_site_may_ask(server, path):
    """A page from elsewhere is never told that it may call: no CORS header, neither to a preflight nor to a request."""
    elsewhere = {"origin": "https://elsewhere.example"}
    wish = {**elsewhere, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    for answer in (server.client.options(path, headers=wish), server.client.get(path, headers=elsewhere)):
        assert [name for name in answer.headers if name.startswith("access-control")] == []
