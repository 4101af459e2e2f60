"""Who is let in: where there are keys, whoever shows one; where there are none, this machine alone."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lyrics_lm import keys
from lyrics_lm.errors import KeysError
from lyrics_lm.serving.asking import HttpError

OPEN = "none"  # in place of hashes: whoever stands before the service lets in whom it will
_PROBES = ("/livez", "/readyz")
_PAGE = ("/", "/page/")  # its files hold no data; what they ask for needs the key
_SCHEME = "bearer "
_HASH = re.compile(r"[0-9a-f]{64}")


class Doors:
    """ASGI middleware around everything. `known` gives the SHA-256 of each key, or None where nobody need show one."""

    def __init__(self, app: ASGIApp, known: Callable[[], Sequence[str] | None]) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope["type"] != "http" else self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        headers = {"www-authenticate": "Bearer"}
        answer = Response(refusal.body.model_dump_json(), refusal.status, headers, media_type="application/json")
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> HttpError | None:
        path = scope["path"]
        if path in _PROBES or path == _PAGE[0] or path.startswith(_PAGE[1]):
            return None
        known = self._known()
        if known is None or (not known and _is_loopback(scope)):
            return None
        if not known:
            return _closed(
                "there is no API key yet, so only this machine is answered; make one there: lyrics-lm keys add NAME"
            )
        given = _given(scope)
        if given and keys.opens(given, known):
            return None
        return _closed("the API key is wrong" if given else "an API key is needed: authorization: Bearer KEY")


class Known:
    """Hashes of the keys in a home, read again when one comes or goes."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stamp: int | None = None
        self._hashes: list[str] = []

    def __call__(self) -> Sequence[str]:
        stamp = _stamp(keys.folder(self._home))
        if stamp != self._stamp:
            self._hashes = [key.sha256 for key in keys.every(self._home)]
            self._stamp = stamp
        return self._hashes


def told(text: str) -> Callable[[], Sequence[str] | None]:
    """What the environment says: hashes between commas, or `none`. Raises `KeysError` for what is neither."""
    hashes = None if text.strip() == OPEN else [part.strip().lower() for part in text.split(",") if part.strip()]
    if hashes and not all(_HASH.fullmatch(one) for one in hashes):
        raise KeysError("an API key in the environment is no SHA-256; take those of: lyrics-lm keys list --json")
    return lambda: hashes


def _given(scope: Scope) -> str:
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
    return header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""


def _is_loopback(scope: Scope) -> bool:
    """Whether the connection came in at an address that only this machine has."""
    host = (scope.get("server") or ("",))[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a socket of the file system, or none at all
        return bool(host) and host.startswith("/")


def _closed(message: str) -> HttpError:
    return HttpError(401, message, code="invalid_api_key")


def _stamp(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return None
