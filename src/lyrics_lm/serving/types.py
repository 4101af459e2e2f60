"""HTTP types of the completions API, as OpenAI defines them, and the limits on what may be asked."""

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MODEL_ID = "lyrics-lm"
MAX_TOKENS = 8192
MAX_PROMPT_CHARACTERS = 100_000
MAX_BODY_BYTES = 1_000_000

TokenIds = list[Annotated[int, Field(ge=0, strict=True)]]
Text = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class CompletionRequest(BaseModel):
    """The body of `POST /v1/completions`. Fields that OpenAI knows and this model cannot honour are
    refused unless they ask for nothing."""

    model_config = ConfigDict(extra="forbid")

    model: str = MODEL_ID
    prompt: Text | list[Text] | TokenIds | list[TokenIds] | None = ""
    max_tokens: int | None = Field(16, ge=0, le=MAX_TOKENS)
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    n: int | None = Field(1, ge=1, le=16)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    echo: bool | None = False
    logprobs: int | None = Field(None, ge=0, le=20)
    user: str | None = None
    best_of: int | None = None
    suffix: None = None
    logit_bias: dict[str, float] | None = Field(None, max_length=0)
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    presence_penalty: float | None = Field(None, ge=0, le=0)

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 4 or "" in stops:
            raise ValueError("give one to four stop strings, none of them empty")
        return stop

    @model_validator(mode="after")
    def _one_result_each(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("best_of other than n is not supported")
        if not self.prompts:
            raise ValueError("prompt is an empty list; give at least one prompt")
        if len(self.prompts) * (self.n or 1) > 64:
            raise ValueError("more than 64 completions asked for at once; send fewer prompts or a smaller n")
        return self

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, each a text or a list of token ids."""
        if self.prompt is None or isinstance(self.prompt, str):
            return [self.prompt or ""]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]
        return cast("list[str] | list[list[int]]", self.prompt)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class GenerateRequest(BaseModel):
    """The body of `POST /generate`."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text


class GenerateResponse(BaseModel):
    text: str


class LinesRequest(BaseModel):
    """The body of `POST /lines`: a text of which the page asks what stands in training songs."""

    model_config = ConfigDict(extra="forbid")

    text: Text


class LinesResponse(BaseModel):
    """Lines that stand in a training song, and one that has each; null where this service cannot tell."""

    lines: dict[str, str] | None


class Logprobs(BaseModel):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] = []


class Choice(BaseModel):
    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """An answer, or one frame of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage | None = None


class Live(BaseModel):
    """What serves now, as `/v1/models` and the page show it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "lyrics-lm"
    version: int
    digest: str
    architecture: str
    bits_per_char: float
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    since: float
    reason: str


class ModelList(BaseModel):
    """The versions that serve, as OpenAI lists models; none before the first is live."""

    object: Literal["list"] = "list"
    data: list[Live]


class Activity(BaseModel):
    """What the service did since it started, and the texts it writes now; over all versions and processes."""

    requests: int
    tokens: int
    batch_size: int


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """OpenAI's error shape."""

    error: ErrorDetail


def first_error(errors: list[Any]) -> tuple[str, str | None]:
    """The message and the field at fault of pydantic's first error."""
    location = [str(part) for part in errors[0]["loc"] if isinstance(part, str) and part in _FIELDS]
    name = location[0] if location else None
    if errors[0]["type"] == "extra_forbidden":
        name = str(errors[0]["loc"][0]).encode(errors="backslashreplace").decode()  # JSON may hold half a character
        return f"Unrecognized request argument supplied: {name}", name
    message = errors[0]["msg"].removeprefix("Value error, ")
    return (f"{name}: {message}" if name else message), name


_FIELDS = frozenset(CompletionRequest.model_fields) | frozenset(GenerateRequest.model_fields)
