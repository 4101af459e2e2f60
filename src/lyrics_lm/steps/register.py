"""`lyrics-lm register DIR`: any bundle that passes the conformance suite becomes a version."""

from dataclasses import dataclass
from pathlib import Path

from lyrics_lm import bundle
from lyrics_lm.errors import ConformanceError
from lyrics_lm.params import Settings


@dataclass(frozen=True)
class Registered:
    """`known`: the same bundle had been registered before, as that version."""

    version: int
    digest: str
    known: bool


def register(settings: Settings, directory: Path) -> Registered:
    """Check and register; raises `ConformanceError` with the failing rule and its remedy."""
    from lyrics_lm.evaluation import conformance

    checked = conformance.check(directory)
    if failure := checked.failure:
        raise ConformanceError(f"{directory} breaks the rule {failure.rule}: {failure.observed}; {failure.remedy}")
    return _register(settings, bundle.read(directory))


def _register(settings: Settings, read: bundle.Bundle) -> Registered:
    from lyrics_lm.registry import runs, versions
    from lyrics_lm.registry.server import tracking

    with tracking(settings) as uri:
        known = versions.find(uri, read.digest)
        if known:
            return Registered(known.version, read.digest, known=True)
        metrics = read.manifest.metrics
        facts = {"name": read.manifest.name, "architecture": read.manifest.architecture}
        run = runs.start(uri, f"register {read.manifest.name}", f"bundle-{read.digest}", facts, {})
        number = versions.register(uri, read, run)
        scores = {"claimed_bits_per_char": metrics.bits_per_char, "claimed_perplexity": metrics.perplexity}
        runs.finish(uri, run, scores, [])
    return Registered(number, read.digest, known=False)
