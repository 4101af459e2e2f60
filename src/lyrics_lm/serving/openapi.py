"""The API as an OpenAPI document, made from the types that it validates with."""

import functools
from typing import Any

from pydantic.json_schema import models_json_schema

from lyrics_lm.serving.types import (
    MODEL_ID,
    Completion,
    CompletionRequest,
    ErrorBody,
    GenerateRequest,
    GenerateResponse,
    LinesRequest,
    LinesResponse,
    Live,
    ModelList,
)

_REF = "#/components/schemas/{model}"
_JSON, _EVENTS = "application/json", "text/event-stream"
_ASKED = (CompletionRequest, GenerateRequest, LinesRequest)
_GIVEN = (Completion, GenerateResponse, LinesResponse, Live, ModelList, ErrorBody)
_HEADERS = {
    "x-request-id": {"description": "ask `lyrics-lm why` about it", "schema": {"type": "string"}},
    "x-model-digest": {"description": "the bundle that answered", "schema": {"type": "string"}},
}

_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "example": MODEL_ID}
_CHUNK = {"type": "object", "properties": {"data": {"type": "string"}}, "description": "a Completion, or [DONE]"}
_LINKS = {"version": {"operationId": "model", "parameters": {"model": "$response.header.x-model-digest"}}}


@functools.cache
def document() -> dict[str, Any]:
    """The whole document."""
    asked = [(kind, "validation") for kind in _ASKED]
    given = [(kind, "serialization") for kind in _GIVEN]
    _, definitions = models_json_schema([*asked, *given], ref_template=_REF)  # type: ignore[list-item]
    schemas = {**definitions["$defs"], "Chunk": _CHUNK}
    streamed = {_JSON: _schema("Completion"), _EVENTS: _schema("Chunk")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "lyrics-lm", "version": "1", "description": "Lyrics from the version that is live."},
        "paths": {
            "/v1/completions": {"post": _asks("complete", "CompletionRequest", streamed)},
            "/generate": {"post": _asks("generate", "GenerateRequest", {_JSON: _schema("GenerateResponse")})},
            "/lines": {"post": _asks("lines", "LinesRequest", {_JSON: _schema("LinesResponse")})},
            "/v1/models": {"get": _operation("models", {_JSON: _schema("ModelList")})},
            "/v1/models/{model}": {"get": {**_operation("model", {_JSON: _schema("Live")}), "parameters": [_MODEL]}},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _asks(name: str, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {_JSON: _schema(kind)}}
    return {**_operation(name, content), "requestBody": body}


def _operation(name: str, content: dict[str, Any]) -> dict[str, Any]:
    refused = {"description": "refused, with the reason", "content": {_JSON: _schema("ErrorBody")}}
    answered = {"description": "answered", "content": content, "headers": _HEADERS, "links": _LINKS}
    return {"operationId": name, "responses": {"200": answered, "4XX": refused, "503": refused}}


def _schema(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=name)}}
