"""The AWS Lambda function: HTTP events in, buffered answers out, by the same rules as the service. One version,
its bundle beside the code. Knows no server."""

import asyncio
import base64
import logging
import os
import time
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from lyrics_lm import bundle
from lyrics_lm.records import Deployment, LiveVersion, to_json
from lyrics_lm.serving import asking
from lyrics_lm.serving.asking import HttpError
from lyrics_lm.serving.live import Serving, load
from lyrics_lm.serving.types import CompletionRequest, GenerateRequest, GenerateResponse

B = TypeVar("B", bound=BaseModel)

_BUNDLE = Path(__file__).parents[2] / "bundle"
_JSON = {"content-type": "application/json"}

logger = logging.getLogger("lyrics_lm.serving")


def _load() -> Serving:
    """In the function's init phase, once for all events that this process answers."""
    read = bundle.read(_BUNDLE)
    manifest = read.manifest
    number = int(os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "0").replace("$LATEST", "0"))
    version = LiveVersion(
        number,
        read.digest,
        manifest.name,
        manifest.architecture,
        manifest.metrics.bits_per_char,
        "",
        str(read.path),
        interval=manifest.metrics.interval,
    )
    return load(version, Deployment("", "lambda", time.time(), "deploy", (version,), "the function's own bundle"))


_serving = _load()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer an event of a function URL or of API Gateway, in either version of its payload."""
    request_id = context.aws_request_id
    headers = {"x-request-id": request_id, "x-model-digest": _serving.version.digest}
    try:
        status, kind, body = _route(event, request_id)
    except HttpError as error:
        status, kind, body = error.status, _JSON, error.body.model_dump_json()
    except Exception:  # as the service: the traceback to the log, the id to the client
        logger.exception("request %s failed", request_id)
        fault = asking.failed(request_id)
        status, kind, body = fault.status, _JSON, fault.body.model_dump_json()
    return {"statusCode": status, "headers": {**headers, **kind}, "body": body, "isBase64Encoded": False}


def _route(event: dict[str, Any], request_id: str) -> tuple[int, dict[str, str], str]:
    method, path = _asked(event)
    match method, path:
        case "POST", "/v1/completions":
            return asyncio.run(_complete(_parse(event, CompletionRequest), request_id))
        case "POST", "/generate":
            return asyncio.run(_generate(_parse(event, GenerateRequest), request_id))
        case "GET", "/v1/models":
            model = {"id": "lyrics-lm", "object": "model", "created": int(_serving.since), "owned_by": "lyrics-lm"}
            return 200, _JSON, to_json({"object": "list", "data": [model]}).decode()
        case "GET", "/livez" | "/readyz":
            return 200, {"content-type": "text/plain"}, ""
    raise asking.not_offered(method, path)


async def _complete(asked: CompletionRequest, request_id: str) -> tuple[int, dict[str, str], str]:
    asking.require_known(asked.model, _serving)
    answer = asking.answer(asked, _serving, request_id)
    if asked.stream:  # the frames of a stream, all at once
        frames = b"".join([frame async for frame in answer.frames()])
        return 200, {"content-type": "text/event-stream"}, frames.decode()
    return 200, _JSON, (await answer.whole()).model_dump_json()


async def _generate(asked: GenerateRequest, request_id: str) -> tuple[int, dict[str, str], str]:
    completion = await asking.answer(asking.as_completion(asked), _serving, request_id).whole()
    return 200, _JSON, GenerateResponse(text=completion.choices[0].text).model_dump_json()


def _asked(event: dict[str, Any]) -> tuple[str, str]:
    """Method and path, without the stage that API Gateway puts in front."""
    about = event.get("requestContext", {})
    if "http" in about:
        method, path = about["http"]["method"], event["rawPath"]
    else:
        method, path = event.get("httpMethod", "?"), event.get("path", "?")
    stage = about.get("stage", "$default")
    return method, path.removeprefix(f"/{stage}") if path.startswith(f"/{stage}/") else path


def _parse(event: dict[str, Any], kind: type[B]) -> B:
    body = event.get("body") or ""
    return asking.parse(base64.b64decode(body) if event.get("isBase64Encoded") else body.encode(), kind)
