"""The frozen records that cross a boundary (a file, a process, a tool), and their JSON form."""

import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

R = TypeVar("R")


@dataclass(frozen=True)
class StateSpec:
    """One state tensor of a model, for one sequence (the batch axis is added in front)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class KnownAnswer:
    """Token ids (T) and the logits they must give: (V) after the last one, or (T, V) after each."""

    tokens: tuple[int, ...]
    logits: tuple[float | tuple[float, ...], ...]

    @property
    def last(self) -> tuple[float, ...]:
        """The logits (V) after the last token, whichever of both forms this is; () when it holds none."""
        end = self.logits[-1] if self.logits else ()
        return end if isinstance(end, tuple) else self.logits  # type: ignore[return-value]


@dataclass(frozen=True)
class Metrics:
    """Scores on a held-out split; `split` names it. Bits are per character, perplexity per token. `interval` is the
    95% interval of the bits, where whoever exported the bundle gave one."""

    bits_per_char: float
    perplexity: float
    split: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Manifest:
    """`contract.json`: all there is to know of a bundle without opening its other files."""

    format: int
    name: str
    architecture: str
    vocab_size: int
    context: int
    state: tuple[StateSpec, ...]
    provenance: dict[str, Any]
    metrics: Metrics
    known_answer: KnownAnswer
    files: dict[str, str]


@dataclass(frozen=True)
class EvalReport:
    """Losses of one model on the songs of one split, song by song, in corpus order.

    `nats[i]` sums -ln p over the `tokens[i]` tokens of song i; `chars[i]` counts its characters
    and `unknown[i]` those of them that the tokens do not tell (hidden under an unknown token, or dropped).
    """

    model: str
    split: str
    songs: tuple[str, ...]
    nats: tuple[float, ...]
    tokens: tuple[int, ...]
    chars: tuple[int, ...]
    unknown: tuple[int, ...]

    @property
    def perplexity(self) -> float:
        """exp(-1/N sum log p) over all N tokens of the split."""
        return math.exp(sum(self.nats) / sum(self.tokens))

    @property
    def bits(self) -> tuple[float, ...]:
        """Bits per song. An unknown character also pays for being named among all of Unicode, so that a
        tokenizer cannot lower its score by knowing less."""
        hidden = math.log2(0x110000)
        return tuple(n / math.log(2) + u * hidden for n, u in zip(self.nats, self.unknown, strict=True))

    @property
    def bits_per_char(self) -> float:
        return sum(self.bits) / sum(self.chars)


@dataclass(frozen=True)
class Slice:
    """Bits per character on a part of the test songs, with their 95% interval (None: too few songs to tell).
    `kind` is `artist`, `length` or `lines`; `songs` counts those that have any of it."""

    kind: str
    name: str
    songs: int
    chars: int
    bits_per_char: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SlicesReport:
    """A score taken apart. `overlap` is the share of the test songs' lines (of twelve characters or more) that
    stand word for word in a training song."""

    overlap: float
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Copied:
    """A passage that a model wrote and a training song has; `length` in characters, `text` cut short."""

    text: str
    length: int
    song: str


@dataclass(frozen=True)
class CopyingReport:
    """How much of what a model writes stands word for word in the training songs.

    `share` of all runs of `window` characters in `samples` texts, and the same share of the test songs, which
    copied nothing: what coincidence makes. `excess_low` and `excess_high` bound the difference (95%).
    Lengths of the longest passages in characters; `worst` holds the longest of different songs.
    """

    window: int
    samples: int
    share: float
    test_share: float
    excess_low: float
    excess_high: float
    longest: int
    test_longest: int
    worst: tuple[Copied, ...]


@dataclass(frozen=True)
class GateResult:
    """One check of a version: what was seen, what was asked for, and why that passes or not."""

    gate: str
    passed: bool
    observed: str
    threshold: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """All gates of one version, against the champion of that moment (None: there was none)."""

    digest: str
    champion: str | None
    time: float
    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    @property
    def reason(self) -> str:
        """The first failing gate's reason, or the first gate's when all pass."""
        failed = [gate for gate in self.gates if not gate.passed]
        return (failed or list(self.gates))[0].reason


@dataclass(frozen=True)
class LiveVersion:
    """A version as a target serves it: where its bundle lies and its share of traffic (percent)."""

    version: int
    digest: str
    name: str
    architecture: str
    bits_per_char: float
    bento: str
    path: str
    share: int = 100
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Deployment:
    """One change of a rollout. `versions` begins with the one that serves; one that is tried beside it follows.
    `replaces` and `restores` are ids of earlier deployments: the last one in which a version served alone, and,
    for an undo or an abort, the one it brought back."""

    id: str
    target: str
    time: float
    action: str
    versions: tuple[LiveVersion, ...]
    reason: str
    replaces: str | None = None
    restores: str | None = None
    evidence: Verdict | None = None


@dataclass(frozen=True)
class TrialReport:
    """How the trial of a version stands, or the watch over one that took over: its share of the clients (percent),
    bits per character against the champion on the same prompts, the capitals that say better and worse (proved at
    `proof`), answers and those that failed, and its time per token over the champion's."""

    version: int
    share: int
    prompts: int
    difference: float
    better: float
    worse: float
    proof: float
    answers: int
    errors: int
    slower: float | None
    reason: str


@dataclass(frozen=True)
class Observed:
    """What a service did with a deployment: served its version, or kept the old one and says why.
    `deployment` is None when it has just started."""

    deployment: str | None
    pid: int
    time: float
    error: str | None


@dataclass(frozen=True)
class TrafficRecord:
    """One request served. Times in seconds; `finish` as OpenAI's `finish_reason`, or `cancelled`;
    `prompt_bits_per_char` is what the version made of the prompt, None where it was too short to tell;
    `prompt_words` are its words, hashed. `written` is when it came into the log."""

    time: float
    request: str
    digest: str
    prompt: str
    params: dict[str, Any]
    text: str
    prompt_tokens: int
    tokens: int
    seconds: float
    finish: str
    prompt_bits_per_char: float | None = None
    prompt_chars: int = 0
    unknown_share: float = 0.0
    prompt_words: tuple[int, ...] = ()
    written: float = 0.0


@dataclass(frozen=True)
class Progress:
    """How far a training run is. Loss in nats per token; times in seconds; `pid` is the process that trains."""

    model: str
    step: int
    steps: int
    loss: float
    bits_per_char: float
    seconds: float
    seconds_left: float
    pid: int = 0


@dataclass(frozen=True)
class CorpusSummary:
    """What `prepare` made of a corpus."""

    digest: str
    songs: int
    rejects: int
    duplicates: int
    excluded: int
    characters: int
    splits: dict[str, int]
    tokens: dict[str, int] = field(default_factory=dict)
    vocab_size: int = 0
    chars_per_token: float = 1.0


@dataclass(frozen=True)
class SignalChange:
    """One signal: its median in the reference and among the last requests, each None where it tells nothing."""

    signal: str
    then: float | None
    now: float | None


@dataclass(frozen=True)
class DriftReport:
    """What is known of live traffic against the reference. `strength` is what proves a drift, as the gambler's
    capital; it is proved at `proof`. `since_request` counts requests after the reference, from 1; times in seconds;
    `examples` are the prompts that look least like before; `advice` is what came of an alarm, where nothing
    at hand could help."""

    drift_detected: bool
    version: int
    digest: str
    deployment: str
    reference: int
    reference_needed: int
    reference_is: str
    requests: int
    strength: float
    proof: float
    signal: str | None = None
    direction: str | None = None
    since_request: int | None = None
    since: float | None = None
    alarmed: float | None = None
    examples: tuple[str, ...] = ()
    signals: tuple[SignalChange, ...] = ()
    advice: str | None = None


def to_json(record: Any) -> bytes:
    """UTF-8 JSON of a record, keys in order of declaration."""
    return msgspec.json.encode(record)


def from_json(data: bytes | str, kind: type[R]) -> R:
    """The record of that kind; raises `msgspec.ValidationError` that names the field at fault."""
    return msgspec.json.decode(data, type=kind)
