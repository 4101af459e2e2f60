"""`params.yaml` and the environment, read once and frozen. Knows what a setting means, not who uses it."""

import difflib
import math
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from lyrics_lm import connection, durable
from lyrics_lm.connection import Login
from lyrics_lm.errors import ParamsError, WorkspaceError

FILE = "params.yaml"
_EXPERIMENTS = ".dvc/tmp/exps"

_BUILT_IN = ("bigram", "transformer")
_OWN_CLASS = re.compile(r"models/[\w./-]+\.py:\w+")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CorpusParams(_Section):
    """`max_rejects`: unusable rows tolerated. `near_duplicate`: Jaccard similarity of word triples
    from which two songs count as one."""

    max_rejects: int = Field(100, ge=0)
    near_duplicate: float = Field(0.5, gt=0, le=1)


class TokenizerParams(_Section):
    """`characters`, or `bpe` with `vocab_size` tokens."""

    kind: Literal["characters", "bpe"] = "characters"
    vocab_size: int = Field(2000, ge=300, le=65000)


class ModelParams(_Section):
    """`name` is `bigram`, `transformer` or `models/FILE.py:CLASS`; the sizes are the transformer's
    (`ngrams`: rows of each of its tables);
    `args` are passed to a class of your own."""

    name: str = "transformer"
    context: int = Field(64, ge=1, le=4096)
    layers: int = Field(2, ge=1)
    width: int = Field(64, ge=8)
    heads: int = Field(2, ge=1)
    ngrams: int = Field(3001, ge=1)
    args: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _known_name(cls, name: str) -> str:
        own = _OWN_CLASS.fullmatch(name) and ".." not in name  # only what lies in models/ is kept with a run
        if name not in _BUILT_IN and not own:
            raise PydanticCustomError("model_name", "write bigram, transformer, or models/FILE.py:CLASS")
        return name


class TrainingParams(_Section):
    """`steps` of `batch_size` windows of the model's context, shared out among `processes`; `learning_rate` is
    the peak. `seeds` networks are trained, from `seed` on, and the median is kept."""

    steps: int = Field(1500, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    seed: int = 1
    seeds: int = Field(1, ge=1, le=20)
    checkpoint_every: int = Field(100, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = Field(1, ge=1, le=64)

    @field_validator("processes")
    @classmethod
    def _even_shares(cls, processes: int, info: ValidationInfo) -> int:
        if info.data.get("batch_size", processes) % processes:
            raise PydanticCustomError("shares", "it should divide training.batch_size")
        return processes


class ServingParams(_Section):
    """`workers` processes answer requests; one writes about as much as one core can. `copy_guard`: a text that comes
    to `gates.copying` characters in a row of one training song stops before."""

    workers: int = Field(1, ge=1, le=64)
    copy_guard: bool = True


class TrafficParams(_Section):
    """What the traffic log keeps of prompts and texts (`full`, `hash`: only which are equal, or `none`), for how
    many days and in how many megabytes."""

    store_text: Literal["full", "hash", "none"] = "full"
    keep_days: float = Field(30.0, gt=0)
    keep_mb: float = Field(1000.0, gt=0)


class DriftParams(_Section):
    """`reference`: requests after a version went live that say what is usual. `false_alarm`: the chance that it
    is ever called a drift when nothing changed. `learn_from_traffic`: whether prompts may become training text.
    `notify_url`: who is told of an alarm; LYRICS_LM_NOTIFY_URL goes over it, for an address with a token is a secret.
    `debounce`, `cooldown`: seconds for which new songs, and another retraining after one, wait."""

    reference: int = Field(500, ge=30)
    false_alarm: float = Field(0.01, gt=0, lt=0.5)
    learn_from_traffic: bool = False
    notify_url: str = ""
    debounce: float = Field(10.0, ge=0)
    cooldown: float = Field(600.0, ge=0)


class GateParams(_Section):
    """Limits a version must keep: milliseconds per token over the champion's, megabytes, and how many characters
    in a row, word for word from one training song, count as copied. `tolerance`: bits per character that a version
    which is better on drifted traffic may lose on the frozen test songs."""

    copying: int = Field(50, ge=31)
    latency_ratio: float = Field(20.0, gt=0)
    size_mb: float = Field(100.0, gt=0)
    tolerance: float = Field(0.05, ge=0)


class DeliveryParams(_Section):
    """How a version that passed its gates takes over: at once; as a `canary`, with 5% of the clients, then 25%; or
    from the `shadow`, where nobody sees what it answers. The last two until it is proved better or worse, or
    `decide_within` seconds are over. More failing answers than `max_errors` (a share), or more milliseconds per token
    than `max_ms_per_token`, send it away at any time."""

    strategy: Literal["direct", "canary", "shadow"] = "direct"
    decide_within: float = Field(86_400.0, gt=0)
    undecided: Literal["hold", "promote", "abort"] = "hold"
    approval: Literal["none", "required"] = "none"
    max_errors: float = Field(0.01, gt=0, lt=1)
    max_ms_per_token: float = Field(100.0, gt=0)


class ImageParams(_Section):
    """Container images: the repository that a cluster pulls them from."""

    repository: str = "lyrics-lm"


class KubernetesParams(_Section):
    """Where in the cluster, and the Gateway that routes to it."""

    namespace: str = "default"
    gateway: str = "gateway"


class LambdaParams(_Section):
    """The AWS Lambda function: its role's ARN, and the S3 bucket for a package over 50 MB."""

    function: str = "lyrics-lm"
    role: str | None = None
    python: Literal["3.12", "3.13"] = "3.13"
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    memory_mb: int = Field(1769, ge=256, le=10240)
    bucket: str | None = None


class SigningParams(_Section):
    """PEM files: the private key that signs a bundle when it is registered, the certificates that vouch for the key,
    and what signatures are verified against, a public key or root certificates. `require_signature`: whether a bundle
    without one is refused."""

    key: str | None = None
    certificate: str | None = None
    trusted: str | None = None
    require_signature: bool = False

    @field_validator("certificate")
    @classmethod
    def _has_a_key(cls, certificate: str | None, info: ValidationInfo) -> str | None:
        if certificate is not None and info.data.get("key") is None:
            raise PydanticCustomError("key", "set signing.key, the private key that it was made for")
        return certificate

    @field_validator("require_signature")
    @classmethod
    def _has_a_measure(cls, required: bool, info: ValidationInfo) -> bool:
        if required and info.data.get("trusted") is None:
            raise PydanticCustomError("trusted", "set signing.trusted too, what signatures are verified against")
        return required


class Params(_Section):
    """All of `params.yaml`."""

    corpus: CorpusParams = CorpusParams()
    tokenizer: TokenizerParams = TokenizerParams()
    model: ModelParams = ModelParams()
    training: TrainingParams = TrainingParams()
    gates: GateParams = GateParams()
    serving: ServingParams = ServingParams()
    traffic: TrafficParams = TrafficParams()
    drift: DriftParams = DriftParams()
    delivery: DeliveryParams = DeliveryParams()
    signing: SigningParams = SigningParams()
    aws_lambda: LambdaParams = LambdaParams()
    images: ImageParams = ImageParams()
    kubernetes: KubernetesParams = KubernetesParams()


@dataclass(frozen=True)
class Settings:
    """A workspace as the environment shows it. `tracking_uri` None means the embedded MLflow server;
    `login` is the one that `connect` keeps for another, or that its address held; None where MLflow's own variables
    hold it. `signing` is that of the params, with whole paths: from the workspace, or from the folder that
    LYRICS_LM_SIGNING_KEYS names."""

    root: Path
    home: Path
    tracking_uri: str | None
    params: Params
    login: Login | None = None
    signing: SigningParams = field(default_factory=SigningParams)


def find(start: Path) -> Path:
    """The nearest folder at or above `start` that holds a `params.yaml`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise WorkspaceError(
        f"no {FILE} in {start} or above it; make a workspace with: lyrics-lm init {start.name or 'mine'}"
    )


def load(root: Path) -> Settings:
    """The settings of the workspace at `root`; raises `ParamsError` naming the key at fault."""
    home = Path(os.environ.get("LYRICS_LM_HOME") or _lasting(root) / ".lyrics-lm").resolve()
    named, login = connection.registry(os.environ.get("MLFLOW_TRACKING_URI", ""), "MLFLOW_TRACKING_URI")
    connected = None if named else connection.read(home)
    params = _validate(_read(root / FILE), str(root / FILE))
    if hook := os.environ.get("LYRICS_LM_NOTIFY_URL"):
        params = params.model_copy(update={"drift": params.drift.model_copy(update={"notify_url": hook})})
    return Settings(
        root=root,
        home=home,
        tracking_uri=named or (connected.tracking_uri if connected else None),
        params=params,
        login=connected.login if connected else login,
        signing=_located(params.signing, Path(os.environ.get("LYRICS_LM_SIGNING_KEYS") or _lasting(root)).resolve()),
    )


def _lasting(root: Path) -> Path:
    """The workspace whose home and keys count: an experiment of DVC runs in a copy that is thrown away."""
    return next((folder.parents[2] for folder in root.parents if folder.match(_EXPERIMENTS)), root)


def _located(signing: SigningParams, folder: Path) -> SigningParams:
    files = {"key": signing.key, "certificate": signing.certificate, "trusted": signing.trusted}
    return signing.model_copy(update={name: file and str(folder / file) for name, file in files.items()})


def override(root: Path, assignments: Sequence[str]) -> None:
    """Write `section.key=value` assignments into `params.yaml`, as `dvc exp run --set-param` does.

    Comments and order are kept: only the lines of the named keys change.
    """
    path = root / FILE
    values, text = _read(path), path.read_text(encoding="utf-8")
    _validate(values, str(path))
    for assignment in assignments:
        section, key, value = _parse(assignment)
        _assign(values, section, key, value, assignment)
        first = key.partition(".")[0]
        text = _replace_line(text, section, first, values[section][first])
        _validate(values, f"--set {assignment}")
    if yaml.safe_load(text) != values:
        text = yaml.safe_dump(values, sort_keys=False)
    durable.write(path, text.encode())


def _parse(assignment: str) -> tuple[str, str, Any]:
    name, equals, raw = assignment.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot or not key:
        raise ParamsError(f"--set {assignment} is not of the form section.key=value, as in: --set training.steps=200")
    try:
        return section, key, yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ParamsError(f"--set {assignment}: {raw!r} is not a YAML value; quote it") from error


def _assign(values: dict[str, Any], section: str, key: str, value: Any, assignment: str) -> None:
    *parents, last = [section, *key.split(".")]
    target = values
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ParamsError(f"--set {assignment}: {parent} is {target!r}, which has no parts; set {parent} itself")
    target[last] = value


def _replace_line(text: str, section: str, key: str, value: Any) -> str:
    """`text` with the scalar of `section.key` replaced where that is one line; else unchanged."""
    lines, inside = text.splitlines(keepends=True), False
    for number, line in enumerate(lines):
        if not line.startswith((" ", "#", "\n")):
            inside = line.startswith(f"{section}:")
        if inside and line.strip().startswith(f"{key}:"):
            indent = line[: len(line) - len(line.lstrip())]
            comment = line.partition(" #")[2]
            dumped = yaml.safe_dump(value, default_flow_style=True, width=math.inf).splitlines()[0]
            lines[number] = f"{indent}{key}: {dumped}" + (f"  #{comment}" if comment else "\n")
    return "".join(lines)


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand only once: of two, the first would silently count for nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}" if mark else ""
        raise ParamsError(f"{path}{place} is not valid YAML: {error.problem}; mend that line") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise ParamsError(f"{path} is not valid YAML: {where}; write it as text in UTF-8") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ParamsError(f"{path} is not a mapping of sections; compare it with that of a fresh: lyrics-lm init DIR")
    return values


def _validate(values: Mapping[str, Any], source: str) -> Params:
    """`source` is what a person would change: the file, or one `--set`."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ParamsError(f"{source}: {name} is not a setting; {_suggestion(first['loc'])}") from error
        raise ParamsError(f"{source}: {name} is {first['input']!r}; {_wish(first)}") from error


def _wish(fault: ErrorDetails) -> str:
    """What pydantic asks for, in words of the file."""
    if fault["type"] in ("model_type", "dict_type"):
        return "write its settings below it, one to a line"
    return fault["msg"].replace("Input should be", "it should be")


def _suggestion(location: Sequence[int | str]) -> str:
    section: Any = Params
    for part in location[:-1]:
        section = section.model_fields[str(part)].annotation
    close = difflib.get_close_matches(str(location[-1]), section.model_fields, 1)
    return f"{f'did you mean {close[0]}? ' if close else ''}known: {', '.join(section.model_fields)}"
