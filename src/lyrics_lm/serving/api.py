"""The HTTP routes: completions, models, the page and its events. Translates errors, decides nothing."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lyrics_lm.records import TrafficRecord
from lyrics_lm.serving import asking
from lyrics_lm.serving.asking import HttpError
from lyrics_lm.serving.completions import Answer
from lyrics_lm.serving.guard import Guard
from lyrics_lm.serving.live import LiveModel, Serving
from lyrics_lm.serving.metrics import Meter
from lyrics_lm.serving.openapi import document
from lyrics_lm.serving.types import (
    MODEL_ID,
    Completion,
    CompletionRequest,
    GenerateRequest,
    GenerateResponse,
    LinesRequest,
    LinesResponse,
    Live,
    ModelList,
)

B = TypeVar("B", bound=BaseModel)

_PAGE = Path(__file__).parent / "page"
_REQUEST = "lyrics_lm.request"  # where the middleware leaves the request id
_DIGEST = "x-model-digest"
_EVENT_SECONDS = 1.0
_SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_ASK_AGAIN = {"cache-control": "no-cache"}

logger = logging.getLogger("lyrics_lm.serving")


class Api:
    """The routes, over what is live. `training` gives the progress of a running training, `drift` how far the
    evidence of drift is, `trial` how a trial stands, all as JSON; `known_lines` the lines of a text that stand in
    training songs, with one that has each, or None where nobody can tell. `guard` stops texts that copy."""

    def __init__(
        self,
        live: LiveModel,
        record: Callable[[TrafficRecord], None],
        training: Callable[[], bytes | None],
        meter: Meter,
        known_lines: Callable[[str], dict[str, str] | None],
        drift: Callable[[], bytes | None] = lambda: None,
        trial: Callable[[], bytes | None] = lambda: None,
        guard: Guard | None = None,
    ) -> None:
        self._live = live
        self._record = record
        self._training = training
        self._meter = meter
        self._known_lines = known_lines
        self._drift = drift
        self._trial = trial
        self._guard = guard

    def app(self, lifespan: Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self.page),
                Mount("/page", _PageFiles(directory=_PAGE)),
                Route("/events", self.events),
                Route("/generate", self.generate, methods=["POST"]),
                Route("/lines", self.lines, methods=["POST"]),
                Route("/openapi.json", self.openapi),
                Route("/v1/models", self.models),
                Route("/v1/models/{model}", self.model),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/{path:path}", self.unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ],
            exception_handlers={HttpError: _http_error, HTTPException: _not_offered, Exception: _crash},
            lifespan=lifespan,
        )

    async def page(self, _: Request) -> Response:
        return FileResponse(_PAGE / "index.html", headers={**_SECURITY_HEADERS, **_ASK_AGAIN})

    async def models(self, _: Request) -> Response:
        data = [] if self._live.current is None else [describe(self._live.current)]
        return JSONResponse(ModelList(data=data).model_dump())

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(document())

    async def model(self, request: Request) -> Response:
        asking.require_known(request.path_params["model"], self._live.current)
        return JSONResponse(describe(self._serving()).model_dump())

    async def completions(self, request: Request) -> Response:
        asked = await _body(request, CompletionRequest)
        asking.require_known(asked.model, self._live.current)
        if asked.stream:
            frames, digest = await self._frames(request, asked)
            return StreamingResponse(frames, headers={_DIGEST: digest}, media_type="text/event-stream")
        completion, digest = await self._whole(request, asked)
        return Response(completion.model_dump_json(), headers={_DIGEST: digest}, media_type="application/json")

    async def generate(self, request: Request) -> Response:
        asked = await _body(request, GenerateRequest)
        completion, digest = await self._whole(request, asking.as_completion(asked))
        body = GenerateResponse(text=completion.choices[0].text)
        return JSONResponse(body.model_dump(), headers={_DIGEST: digest})

    async def lines(self, request: Request) -> Response:
        asked = await _body(request, LinesRequest)
        known = await asyncio.to_thread(self._known_lines, asked.text)
        return JSONResponse(LinesResponse(lines=known).model_dump())

    async def events(self, _: Request) -> Response:
        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def unknown(self, request: Request) -> Response:
        raise asking.not_offered(request.method, request.url.path)

    def _serving(self) -> Serving:
        if self._live.current is None:
            raise HttpError(503, "no version is live yet; the first one is on its way", code="no_model")
        return self._live.current

    def _tried(self, request: Request, asked: CompletionRequest) -> Answer | None:
        """The answer of the version that is tried, where this client's are its."""
        serving = self._live.pick(_client(request, asked))
        tried = serving if serving is not self._live.current else None
        return asking.answer(asked, tried, request.scope[_REQUEST], self._guard) if tried else None

    def _answer(self, request: Request, asked: CompletionRequest) -> Answer:
        return asking.answer(asked, self._serving(), request.scope[_REQUEST], self._guard)

    async def _whole(self, request: Request, asked: CompletionRequest) -> tuple[Completion, str]:
        """The whole answer and who gave it: the champion too where a challenger fails."""
        if answer := self._tried(request, asked):
            try:
                return await self._kept(answer), answer.digest
            except Exception:  # whatever it is, it is the challenger's
                logger.exception("the version on trial failed request %s", answer.id)
        answer = self._answer(request, asked)
        return await self._kept(answer), answer.digest

    async def _kept(self, answer: Answer) -> Completion:
        try:
            return await answer.whole()
        finally:
            self._keep(answer)

    async def _frames(self, request: Request, asked: CompletionRequest) -> tuple[AsyncIterator[bytes], str]:
        """The frames of the answer and who gives it: the champion too where a challenger fails before the first."""
        if answer := self._tried(request, asked):
            frames = answer.frames()
            try:
                return self._recorded(answer, frames, await anext(frames)), answer.digest
            except Exception:  # whatever it is, it is the challenger's
                logger.exception("the version on trial failed request %s", answer.id)
                self._keep(answer)
        answer = self._answer(request, asked)
        return self._recorded(answer, answer.frames()), answer.digest

    async def _recorded(
        self, answer: Answer, frames: AsyncGenerator[bytes, None], first: bytes | None = None
    ) -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield first
            async with contextlib.aclosing(frames):
                async for frame in frames:
                    yield frame
        except Exception:
            logger.exception("request %s failed while it streamed", answer.id)
            yield b"data: " + asking.failed(answer.id).body.model_dump_json().encode() + b"\n\n"
        finally:
            self._keep(answer)

    def _keep(self, answer: Answer) -> None:
        self._meter.answered(answer.digest, answer)
        for record in answer.records():
            self._record(record)

    async def _events(self) -> AsyncIterator[bytes]:
        """What is live, at once and at every change; what is done and what is trained, each second."""
        shown: Serving | None = None
        training: bytes | None = b""
        drift: bytes | None = None
        trial: bytes | None = None
        first = True
        while True:
            if first or shown is not self._live.current:
                shown, first = self._live.current, False
                yield _event("live", describe(shown).model_dump_json().encode() if shown else b"null")
            if (now := self._training()) != training:
                training = now
                yield _event("training", training or b"null")
            if (line := self._drift()) != drift:
                drift = line
                yield _event("drift", drift or b"null")
            if (stands := self._trial()) != trial:
                trial = stands
                yield _event("trial", trial or b"null")
            yield _event("activity", self._meter.activity().model_dump_json().encode())
            await self._live.changed(_EVENT_SECONDS)


def describe(serving: Serving) -> Live:
    """What `/v1/models` and the page show of a version."""
    version = serving.version
    return Live(
        id=MODEL_ID,
        created=int(serving.since),
        version=version.version,
        digest=version.digest,
        architecture=version.architecture,
        bits_per_char=version.bits_per_char,
        interval=list(version.interval) if version.interval else None,
        since=serving.since,
        reason=serving.reason,
    )


class _PageFiles(StaticFiles):
    """Files that a browser asks about each time, so that a new release shows at once; unchanged ones cost a 304."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_ASK_AGAIN)
        return response


class Headers:
    """ASGI middleware: every answer carries `x-request-id` and, once a version is live, `x-model-digest`."""

    def __init__(self, app: ASGIApp, live: LiveModel) -> None:
        self._app = app
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_REQUEST] = uuid.uuid4().hex

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                extra = [(b"x-request-id", scope[_REQUEST].encode())]
                if self._live.current and _DIGEST.encode() not in names:
                    extra.append((_DIGEST.encode(), self._live.current.version.digest.encode()))
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        await self._app(scope, receive, stamped)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)  # registered for this class alone
    headers = {"retry-after": "2"} if error.status in (429, 503) else None
    return Response(error.body.model_dump_json(), error.status, headers, media_type="application/json")


async def _not_offered(request: Request, error: Exception) -> Response:
    """A path or a method that no route takes."""
    assert isinstance(error, HTTPException)  # registered for this class alone
    answer = await _http_error(request, asking.not_offered(request.method, request.url.path, error.status_code))
    answer.headers.update(error.headers or {})
    return answer


async def _crash(request: Request, _: Exception) -> Response:
    """A fault of ours: the traceback goes to the log, the request id to the client. The server closes the
    connection after one, so the client is told, before it sends the next request down it."""
    answer = await _http_error(request, asking.failed(request.scope[_REQUEST]))
    answer.headers["connection"] = "close"
    return answer


async def _body(request: Request, kind: type[B]) -> B:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        asking.require_size(len(raw))
    return asking.parse(raw, kind)


def _client(request: Request, asked: CompletionRequest) -> str:
    """Who asks, so that one client meets one version: by its own word, else its key, else its address."""
    address = request.client.host if request.client else ""
    return asked.user or request.headers.get("authorization") or address


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
