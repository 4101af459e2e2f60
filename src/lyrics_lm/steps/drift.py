"""`lyrics-lm drift`: has live traffic left what was usual? Reads the traffic log on from where it stopped."""

import csv
import dataclasses
import io
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from lyrics_lm import durable, rollout, traffic
from lyrics_lm.errors import CorpusError, RegistryError
from lyrics_lm.monitoring import monitor as monitors
from lyrics_lm.monitoring import words
from lyrics_lm.monitoring.monitor import Monitor
from lyrics_lm.monitoring.report import report
from lyrics_lm.params import Settings
from lyrics_lm.records import Deployment, DriftReport, LiveVersion, TrafficRecord, from_json, to_json

_MARGIN_SECONDS = 1.0  # a batch stamped before this moment has surely come into the folder
_FEWEST_PROMPTS = 30
_LINE_POINTS = 60


@dataclass(frozen=True)
class Line:
    """What the page shows: how far the evidence is (log10, and where it proves a drift), and the last of its path."""

    version: int
    reference: int
    reference_needed: int
    requests: int
    drift_detected: bool
    signal: str | None
    proof: float
    path: tuple[float, ...]


def drift(settings: Settings, target: str = "local") -> DriftReport:
    """The report of what is live; raises `RegistryError` when nothing is."""
    deployment, live = _live(settings, target)
    return report(look(settings, target), live.version, advice(settings, deployment.id))


def look(settings: Settings, target: str = "local") -> Monitor:
    """The monitor of what is live, brought up to now. A deployment begins a new one."""
    deployment, live = _live(settings, target)
    with _alone(settings):
        before = _load(settings, target, deployment, live)
        fresh = [*traffic.read(settings.home / "traffic", after=before.written, until=time.time() - _MARGIN_SECONDS)]
        ours = [
            dataclasses.replace(one, text="", params={})
            for one in fresh
            if one.digest == live.digest and one.time >= deployment.time
        ]
        after = monitors.observe(before, ours)
        if fresh:
            after = dataclasses.replace(after, written=fresh[-1].written)
            _save(settings, target, after, live)
        return after


def set_reference(settings: Settings, file: Path, target: str = "local") -> DriftReport:
    """Take the prompts of a file as what is usual for the live version. Raises `CorpusError` where they are too
    few, or the file cannot be read."""
    deployment, live = _live(settings, target)
    prompts = _prompts(file)
    if len(prompts) < _FEWEST_PROMPTS:
        raise CorpusError(
            f"{file} holds {len(prompts)} prompts, too few to say what is usual; give at least {_FEWEST_PROMPTS}"
        )
    records = _scored(Path(live.path), live.digest, prompts)
    with _alone(settings):
        before = _load(settings, target, deployment, live)
        after = monitors.given(dataclasses.replace(before, written=time.time()), records, f"from {file.name}")
        _save(settings, target, after, live)
    return report(after, live.version)


def advice(settings: Settings, deployment: str) -> str | None:
    """What was said to the alarm of that deployment, where nothing at hand could help."""
    from lyrics_lm.steps import ledger

    return ledger.read(settings.home).answered.get(deployment)


def drifted_prompts(settings: Settings, seen: Monitor) -> list[str]:
    """The different prompts since the drift began, in order; none where their text is not kept."""
    if seen.drifted_since is None or settings.params.traffic.store_text != "full":
        return []
    records = traffic.read(settings.home / "traffic", after=seen.drifted_since)
    since = (one.prompt for one in records if one.digest == seen.digest and one.time >= (seen.drifted_since or 0))
    return list(dict.fromkeys(prompt for prompt in since if prompt.strip()))


def _live(settings: Settings, target: str) -> tuple[Deployment, LiveVersion]:
    state = rollout.read(settings.home, target)
    if state.current is None or state.live is None:
        raise RegistryError(f"nothing is live at {target} yet, so no traffic can drift; start the loop: lyrics-lm up")
    return state.current, state.live


def _load(settings: Settings, target: str, deployment: Deployment, live: LiveVersion) -> Monitor:
    file = _folder(settings) / f"{target}.json"
    if file.is_file():
        with _readable():
            kept = from_json(file.read_bytes(), Monitor)
            if kept.deployment == deployment.id:
                return kept
    wanted = settings.params.drift
    return Monitor(
        deployment.id, live.digest, deployment.time, wanted.false_alarm, wanted.reference, written=deployment.time
    )


@contextmanager
def _readable() -> Iterator[None]:
    """A state that another release wrote is begun anew from the log."""
    try:
        yield
    except msgspec.DecodeError:
        return


def _save(settings: Settings, target: str, seen: Monitor, live: LiveVersion) -> None:
    durable.write(_folder(settings) / f"{target}.json", to_json(seen))
    shown = report(seen, live.version)
    line = Line(
        live.version,
        shown.reference,
        shown.reference_needed,
        shown.requests,
        shown.drift_detected,
        shown.signal,
        shown.proof,
        tuple(round(10**value, 4) for _, value in seen.path[-_LINE_POINTS:]),
    )
    durable.write(_folder(settings) / "line.json", to_json(line))


def _folder(settings: Settings) -> Path:
    return settings.home / "drift"


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    _folder(settings).mkdir(parents=True, exist_ok=True)
    with FileLock(_folder(settings) / "lock"):
        yield


def _prompts(file: Path) -> list[str]:
    """One prompt to a line; of a .csv or .jsonl, the column or field `prompt`."""
    try:
        content = file.read_text(encoding="utf-8-sig")
        if file.suffix == ".csv":
            found = [row["prompt"] for row in csv.DictReader(io.StringIO(content))]
        elif file.suffix in (".jsonl", ".ndjson"):
            found = [json.loads(line)["prompt"] for line in content.splitlines() if line.strip()]
        else:
            found = content.splitlines()
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{file} holds no prompts that can be read ({error!r}); write one to a line") from error
    return [str(prompt) for prompt in found if prompt and str(prompt).strip()]


def _scored(path: Path, digest: str, prompts: Sequence[str]) -> list[TrafficRecord]:
    """Records as the service would have written them, of prompts that nobody asked."""
    from lyrics_lm import bundle
    from lyrics_lm.inference.generator import Generator
    from lyrics_lm.inference.stream import Sampling

    generator = Generator(bundle.read(path))
    records = []
    for number, prompt in enumerate(prompts):
        tokens = generator.vocabulary.encode(prompt)
        stream, batch = generator.stream(tokens, Sampling(max_tokens=0)), generator.batch()
        batch.add(stream)
        while not stream.ended:
            batch.turn()
        unknown = generator.vocabulary.unknown
        records.append(
            TrafficRecord(
                time=0.0,
                request=f"reference-{number}",
                digest=digest,
                prompt=prompt,
                params={},
                text="",
                prompt_tokens=len(tokens),
                tokens=0,
                seconds=0.0,
                finish="reference",
                prompt_bits_per_char=stream.prompt_bits_per_char(),
                prompt_chars=len(prompt),
                unknown_share=0.0 if unknown is None else tokens.count(unknown) / len(tokens),
                prompt_words=words.buckets(prompt),
            )
        )
    return records
