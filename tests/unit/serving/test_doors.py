import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from lyrics_lm import keys
from lyrics_lm.errors import KeysError
from lyrics_lm.serving.doors import Doors, Known, told

LOOPBACK, ELSEWHERE = "127.0.0.1", "192.0.2.7"
PATHS = ("/v1/completions", "/generate", "/lines", "/events", "/metrics", "/v1/models", "/docs.json")


def behind(known):
    """An application that answers everything, behind the doors."""
    everything = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("in"), methods=["GET", "POST"])])
    return Doors(everything, known)


def ask(app, path="/v1/models", key=None, at=LOOPBACK):
    """The answer to a request that came in at that address of the machine."""

    async def addressed(scope, receive, send):
        await app({**scope, "server": (at, 3000)}, receive, send)

    async def asked():
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(addressed), base_url="http://door") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(asked())


@pytest.mark.parametrize("path", PATHS)
def test_without_a_key_only_this_machine_is_answered(tmp_path, path):
    """What came in over loopback is; what came in anywhere else learns how a key is made."""
    app = behind(Known(tmp_path))
    assert ask(app, path).text == ask(app, path, at="::1").text == "in"
    refused = ask(app, path, at=ELSEWHERE)
    assert refused.status_code == 401
    assert "lyrics-lm keys add NAME" in refused.json()["error"]["message"]


@pytest.mark.parametrize("at", [LOOPBACK, ELSEWHERE])
@pytest.mark.parametrize("path", PATHS)
def test_where_there_is_a_key_all_need_one(tmp_path, path, at):
    """Whatever is asked, from wherever: a proxy on this machine lets nobody in by accident."""
    key = keys.add(tmp_path, "ann")
    app = behind(Known(tmp_path))
    assert ask(app, path, key, at).text == "in"
    for wrong in (None, "", key[:-1], keys.digest(key)):
        refused = ask(app, path, wrong, at)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/", "/page/page.js"])
def test_probes_and_the_empty_page_are_open(tmp_path, path):
    """They hold nothing of anyone's."""
    keys.add(tmp_path, "ann")
    assert ask(behind(Known(tmp_path)), path, at=ELSEWHERE).text == "in"


def test_keys_come_and_go_without_a_restart(tmp_path):
    """A new one opens at once, several do side by side, and one that is taken back opens nothing any more."""
    app = behind(Known(tmp_path))
    assert ask(app).status_code == 200
    first = keys.add(tmp_path, "first")
    second = keys.add(tmp_path, "second")
    assert [ask(app, key=key).status_code for key in (first, second, None)] == [200, 200, 401]
    keys.remove(tmp_path, "first")
    assert [ask(app, key=key).status_code for key in (first, second)] == [401, 200]


def test_a_container_is_told_its_keys_by_the_environment():
    """Hashes between commas; with none at all nobody elsewhere is let in, and `none` lets everyone in."""
    app = behind(told(f" {keys.digest('a').upper()}, {keys.digest('b')},"))
    assert [ask(app, key=key, at=ELSEWHERE).status_code for key in ("a", "b", "c", None)] == [200, 200, 401, 401]
    assert ask(behind(told("")), at=ELSEWHERE).status_code == 401
    assert ask(behind(told("none")), at=ELSEWHERE).status_code == 200
    with pytest.raises(KeysError, match="is no SHA-256"):
        told("lyrics-a-key-itself")


def test_a_damaged_key_opens_nothing_and_fails_nobody(tmp_path):
    """Whatever is in its file, the others open as before."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "damaged").write_bytes(b"\xff\xfe")
    key = keys.add(tmp_path, "ann")
    app = behind(Known(tmp_path))
    assert [ask(app, key=given).status_code for given in (key, "damaged", None)] == [200, 401, 401]
