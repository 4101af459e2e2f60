"""`lyrics-lm register DIR`: any bundle that passes the conformance suite becomes a version."""

from dataclasses import dataclass
from pathlib import Path

from lyrics_lm import bundle, signing
from lyrics_lm.errors import ConformanceError
from lyrics_lm.params import Settings
from lyrics_lm.steps import signatures


@dataclass(frozen=True)
class Registered:
    """`known`: the same bundle had been registered before, as that version."""

    version: int
    digest: str
    known: bool


def register(settings: Settings, directory: Path) -> Registered:
    """Check, sign where there is a key, and register; raises `ConformanceError` with the failing rule and its remedy,
    or `SignatureError`."""
    from lyrics_lm.evaluation import conformance

    checked = conformance.check(directory)
    if failure := checked.failure:
        raise ConformanceError(f"{directory} breaks the rule {failure.rule}: {failure.observed}; {failure.remedy}")
    from lyrics_lm.registry.server import tracking

    with signatures.signed(settings, bundle.read(directory)) as read:
        if trust := signatures.trust(settings):
            signing.verify(read, trust)
        with tracking(settings) as uri:
            return register_bundle(uri, read)


def register_bundle(uri: str, read: bundle.Bundle) -> Registered:
    """Register a bundle that is known to conform, unless it is there already."""
    from lyrics_lm.registry import runs, versions

    known = versions.registered(uri, read.digest)
    if known:
        return Registered(known.version, read.digest, known=True)
    metrics = read.manifest.metrics
    facts = {"name": read.manifest.name, "architecture": read.manifest.architecture}
    run = runs.start(uri, f"register {read.manifest.name}", f"bundle-{read.digest}", facts, {})
    number = versions.register(uri, read, run)
    scores = {"claimed_bits_per_char": metrics.bits_per_char, "claimed_perplexity": metrics.perplexity}
    runs.finish(uri, run, scores, [])
    return Registered(number, read.digest, known=False)
