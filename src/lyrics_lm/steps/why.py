"""`lyrics-lm why`: the chain of evidence, request -> version -> verdict -> run -> params -> commit -> corpus."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lyrics_lm import rollout, traffic
from lyrics_lm.errors import RegistryError
from lyrics_lm.params import Settings
from lyrics_lm.records import Deployment, TrafficRecord, Verdict

if TYPE_CHECKING:
    from lyrics_lm.registry.versions import Version


_SHORTEST_DIGEST = 6  # of a digest's beginning, so that it names one version


@dataclass(frozen=True)
class Chain:
    """What led to a version. Parts that do not apply, or are not known, are None or empty."""

    request: TrafficRecord | None
    version: int
    digest: str | None
    deployments: tuple[Deployment, ...]
    verdict: Verdict | None
    run: str | None
    params: dict[str, str]
    commit: str | None
    dirty: bool | None
    corpus: str | None
    cause: str | None = None


def why(settings: Settings, subject: str | None) -> Chain:
    """The chain behind a version number, a digest, a request id, or, with None, what is live.

    Raises `RegistryError` when there is no such thing.
    """
    subject = _live(settings) if subject is None else subject

    from lyrics_lm.registry import deployments, runs
    from lyrics_lm.registry.server import tracking
    from lyrics_lm.steps.record import record

    with tracking(settings) as uri:
        record(uri, settings.home, "local")
        request, version = _find(settings, uri, subject)
        run = runs.get(uri, version.run) if version.run else None
        taken = [item for item in deployments.every(uri, "local") if item.versions[0].version == version.version]
        bundle_tags: dict[str, Any] = run.tags if run else {}
        return Chain(
            request=request,
            version=version.version,
            digest=version.digest,
            deployments=tuple(taken),
            verdict=version.verdict,
            run=version.run,
            params=run.params if run else {},
            commit=bundle_tags.get("mlflow.source.git.commit") or None,
            dirty={"true": True, "false": False}.get(bundle_tags.get("lyrics_lm.dirty", "")),
            corpus=bundle_tags.get("lyrics_lm.corpus") or None,
            cause=bundle_tags.get("lyrics_lm.cause") or None,
        )


def _live(settings: Settings) -> str:
    live = rollout.read(settings.home, "local").live
    if live is None:
        raise RegistryError("no version is live yet; start the loop with: lyrics-lm up")
    return str(live.version)


def _find(settings: Settings, uri: str, subject: str) -> "tuple[TrafficRecord | None, Version]":
    from lyrics_lm.registry import versions

    if subject.removeprefix("v").isdecimal() and len(subject) < 9:
        return None, versions.get(uri, int(subject.removeprefix("v")))
    request = traffic.find(settings.home / "traffic", subject.removeprefix("cmpl-"))
    digest = request.digest if request else subject
    version = versions.find(uri, digest) if len(digest) >= _SHORTEST_DIGEST else None
    if version is None:
        raise RegistryError(f"{subject!r} is neither a version, a digest nor a recorded request; see: lyrics-lm status")
    return request, version


def describe(chain: Chain) -> str:
    """The chain in lines for a person, outcome first."""
    lines = []
    if chain.request:
        asked = chain.request
        lines.append(f"request    {asked.request}, {_when(asked.time)}, {asked.tokens} tokens in {asked.seconds:.2f} s")
        lines.append(f"prompt     {asked.prompt[:60]!r}")
    lines.append(f"version    {chain.version}, bundle {chain.digest or 'not known yet'}")
    lines.extend(f"deployed   {_when(item.time)} ({item.action}): {item.reason}" for item in chain.deployments)
    if chain.verdict:
        lines.append(f"verdict    {'passed' if chain.verdict.passed else 'rejected'}: {chain.verdict.reason}")
        lines.extend(
            f"           {'ok  ' if gate.passed else 'FAIL'} {gate.gate}: {gate.observed} (asked: {gate.threshold})"
            for gate in chain.verdict.gates
        )
    lines.append(f"run        {chain.run or 'none: registered from outside'}")
    if chain.cause:
        lines.append(f"because of {chain.cause}")
    if chain.params:
        lines.append("params     " + ", ".join(f"{name}={value}" for name, value in sorted(chain.params.items())))
    if chain.commit:
        lines.append(f"commit     {chain.commit}{' with uncommitted edits, kept with the run' if chain.dirty else ''}")
    if chain.corpus:
        lines.append(f"corpus     {chain.corpus}")
    return "\n".join(lines)


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
