"""The service on all addresses of the machine: who gets in, and what they could change there."""

import hashlib
import json

import httpx
import openai
import pytest

from workspaces import Up, cli, make_workspace, wait_for

WRITES = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PATHS = ("/", "/events", "/metrics", "/livez", "/v1/models", "/v1/completions", "/generate", "/lines", "/page/page.js",
         "/docs.json", "/schema.json", "/healthz", "/api", "/admin", "/rollouts", "/v1/models/lyrics-lm")  # fmt: skip
ASKED = {"/v1/completions", "/generate", "/lines"}  # with POST


class OpenUp(Up):
    verb = ("up", "--host", "0.0.0.0")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("doors") / "mine", **{"model.name": "bigram"})


def test_another_address_needs_a_key_first(workspace):
    """Nothing is started, and the remedy is named."""
    refused = cli(workspace, "up", "--host", "0.0.0.0", check=False)
    assert refused.returncode == 1
    assert "make a key for them first: lyrics-lm keys add NAME" in refused.stderr
    assert cli(workspace, "keys", "list").stdout.startswith("no keys")
    for host, why in (("192.0.2.7", "is not an address of this machine"), ("nowhere.invalid", "is no address")):
        refused = cli(workspace, "up", "--host", host, check=False)
        assert (refused.returncode, f"{host} {why}; take one that is" in refused.stderr) == (1, True)


def test_an_open_service_asks_for_the_key_and_changes_nothing(workspace):
    """The client of OpenAI gets in with its key alone, until it is taken back; no method on any path changes what
    is live, registered or stored."""
    key = cli(workspace, "keys", "add", "ann").stdout.strip()
    up = OpenUp(workspace)
    try:
        with httpx.Client(base_url=up.url, headers={"authorization": f"Bearer {key}"}, timeout=20) as client:
            wait_for(lambda: _live(client))
            up.wait_said("is live after")
            assert httpx.get(f"{up.url}/v1/models").status_code == 401
            assert httpx.get(f"{up.url}/readyz").status_code == 200
            assert "x-request-id" in httpx.get(f"{up.url}/metrics").headers
            before = _state(up.home)
            pairs = [(method, path) for method in WRITES for path in PATHS]
            answers = {pair: client.request(*pair, json={"prompt": "a"}) for pair in pairs}
            taken = {pair for pair, answer in answers.items() if answer.status_code < 400}
            assert taken <= {("POST", path) for path in ASKED}
            assert all(answer.status_code < 500 for answer in answers.values())
            assert _state(up.home) == before
            with openai.OpenAI(base_url=f"{up.url}/v1", api_key=key, max_retries=0) as known:
                assert known.completions.create(model="lyrics-lm", prompt="love").choices[0].text
                assert [named["name"] for named in json.loads(cli(workspace, "keys", "list", "--json").stdout)] == [
                    "ann"
                ]
                cli(workspace, "keys", "add", "bob")
                cli(workspace, "keys", "remove", "ann")
                with pytest.raises(openai.AuthenticationError, match="the API key is wrong"):
                    known.completions.create(model="lyrics-lm", prompt="love")
    finally:
        up.end()


def _live(client):
    try:
        return client.get("/v1/models").json()["data"]
    except (httpx.TransportError, KeyError, ValueError):
        return None


def _state(home):
    """Every file that says what is live, registered or stored."""
    folders = ("rollouts", "bentoml", "keys", "mlflow/artifacts")
    files = (path for folder in folders for path in (home / folder).rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
