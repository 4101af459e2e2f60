"""From bytes to a validated request, or to a refusal in OpenAI's shape. Knows neither a server nor a target."""

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lyrics_lm.errors import BusyError
from lyrics_lm.serving.completions import Answer, PromptError
from lyrics_lm.serving.guard import Guard
from lyrics_lm.serving.live import Serving
from lyrics_lm.serving.types import (
    MAX_BODY_BYTES,
    MODEL_ID,
    CompletionRequest,
    ErrorBody,
    ErrorDetail,
    GenerateRequest,
    first_error,
)

B = TypeVar("B", bound=BaseModel)

_GENERATE_TOKENS = 300


class HttpError(Exception):
    """An answer in OpenAI's error shape."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.status = status
        self.body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code))


def parse(raw: bytes, kind: type[B]) -> B:
    """The body of a request; raises `HttpError` that names the field at fault."""
    require_size(len(raw))
    try:
        return kind.model_validate(json.loads(raw))
    except ValidationError as error:
        message, param = first_error(error.errors())
        raise HttpError(400, message, param=param) from error
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is not JSON: {error}") from error


def require_size(size: int) -> None:
    """Raises `HttpError` for a body of more bytes than are read."""
    if size > MAX_BODY_BYTES:
        raise HttpError(413, f"the body is larger than {MAX_BODY_BYTES} bytes; send a shorter prompt")


def require_known(model: str, serving: Serving | None) -> None:
    """Raises `HttpError` for a model that is not the one served, by either of its names."""
    if model != MODEL_ID and not (serving and model == serving.version.digest):
        raise HttpError(
            404, f"The model '{model}' does not exist; use '{MODEL_ID}'", param="model", code="model_not_found"
        )


def as_completion(asked: GenerateRequest) -> CompletionRequest:
    """The completion that `POST /generate` stands for."""
    return CompletionRequest(prompt=asked.prompt, max_tokens=_GENERATE_TOKENS)


def answer(asked: CompletionRequest, serving: Serving, request_id: str, guard: Guard | None = None) -> Answer:
    """Have it written; raises `HttpError` for a prompt this version cannot take, or a full queue."""
    try:
        return Answer(asked, serving, request_id, guard)
    except PromptError as error:
        raise HttpError(400, str(error), param="prompt") from error
    except BusyError as error:
        raise HttpError(429, str(error), code="rate_limit_exceeded") from error


def not_offered(method: str, path: str, status: int = 404) -> HttpError:
    """The refusal of a path or a method that no route takes."""
    return HttpError(status, f"{method} {path} is not part of this API", code="unknown_url")


def failed(request_id: str) -> HttpError:
    """The answer to a fault of ours: the traceback goes to the log, the request id to the client."""
    return HttpError(500, f"the service failed; its log has request {request_id}")
