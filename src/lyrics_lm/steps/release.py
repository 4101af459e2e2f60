"""The steps of the release loop, each from JSON to JSON, idempotent, and safe to kill at any point.

Each may run on another machine: what an earlier step left there is made again, from the registry, where it lacks.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm import bundle, durable, rollout, signing
from lyrics_lm.bundle import Bundle
from lyrics_lm.errors import BundleError, DeliveryError, SignatureError
from lyrics_lm.params import Settings
from lyrics_lm.records import CopyingReport, EvalReport, GateResult, LiveVersion, Verdict, from_json, to_json
from lyrics_lm.steps import scores, signatures

if TYPE_CHECKING:
    from lyrics_lm.registry.versions import Version

_SHARES = {"direct": 100, "canary": 5, "shadow": 0}  # percent of clients, at first


@dataclass(frozen=True)
class Candidate:
    """A version on its way. Each step fills in what it found; a version that is rejected, or no
    version at all, passes the later steps untouched."""

    target: str = "local"
    version: int | None = None
    path: str | None = None
    problem: str | None = None
    verdict: Verdict | None = None
    model: str | None = None
    bento: str | None = None
    deployment: str | None = None
    share: int = 100

    @property
    def goes_on(self) -> bool:
        """Whether there is anything left to do for it."""
        return self.version is not None and (self.verdict is None or self.verdict.passed)


class Release:
    """The seven steps over one registry, one home and one target."""

    def __init__(self, settings: Settings, uri: str) -> None:
        self._settings = settings
        self._home = settings.home
        self._uri = uri

    def fetch_new_model(self, candidate: Candidate) -> Candidate:
        """The oldest version that is still to be dealt with, its files downloaded once."""
        from lyrics_lm.registry import versions

        waiting = versions.pending(self._uri)
        if not waiting or rollout.read(self._home, candidate.target).challenger:  # one trial at a time
            return candidate
        first = waiting[0]
        try:
            path = self._download(first.version)
        except BundleError as error:
            return replace(candidate, version=first.version, problem=str(error))
        return replace(candidate, version=first.version, path=str(path), verdict=self._verdict_still_valid(first))

    def fetch_champion(self, candidate: Candidate) -> Candidate:
        """The champion, for a target other than the one it won its place at, if it does not serve there yet."""
        from lyrics_lm.registry import versions

        champion = versions.champion(self._uri) if candidate.target != "local" else None
        current = rollout.read(self._home, candidate.target).current
        there = {version.version for version in current.versions} if current else set()
        if champion is None or champion.verdict is None or champion.version in there:
            return candidate
        found = self._champion()
        path = str(found.path) if found else None
        return replace(candidate, version=champion.version, path=path, verdict=champion.verdict)

    def branch_on_new_model(self, candidate: Candidate) -> Candidate:
        """Nothing to decide beyond what `version` says: null ends the run here."""
        return candidate

    def select_model(self, candidate: Candidate) -> Candidate:
        """Signature, conformance, then gates against the champion; the verdict is written to the version."""
        from lyrics_lm.registry import versions

        if candidate.version is None or candidate.verdict:
            return candidate
        verdict = self._judge(candidate)
        if candidate.path and verdict.digest:
            versions.mark_digest(self._uri, candidate.version, verdict.digest)
        versions.mark_verdict(self._uri, candidate.version, verdict)
        if not verdict.passed:
            self._clean(candidate)
        return replace(candidate, verdict=verdict)

    def import_model(self, candidate: Candidate) -> Candidate:
        """The bundle, from where it was downloaded, into the BentoML model store."""
        from lyrics_lm.packaging import bentos

        if not candidate.goes_on:
            return candidate
        return replace(candidate, model=bentos.import_model(self._home, self._bundle(candidate)))

    def build_bento(self, candidate: Candidate) -> Candidate:
        """The Bento around the imported bundle."""
        if not candidate.goes_on:
            return candidate
        return replace(candidate, bento=self._build(candidate))

    def validate_bento(self, candidate: Candidate) -> Candidate:
        """Start the Bento, ask it, compare; a Bento that fails is rejected like a failed gate."""
        from lyrics_lm.packaging import bentos
        from lyrics_lm.registry import versions

        if not candidate.goes_on or candidate.version is None or candidate.verdict is None:
            return candidate
        self._build(candidate)
        problem = bentos.validate(self._home, self._bundle(candidate))
        if problem is None:
            return candidate
        failed = GateResult("validation", False, problem, "answers as its contract says", f"rejected: {problem}")
        verdict = replace(candidate.verdict, gates=(*candidate.verdict.gates, failed))
        versions.mark_verdict(self._uri, candidate.version, verdict)
        self._clean(candidate)
        return replace(candidate, verdict=verdict)

    def deploy(self, candidate: Candidate) -> Candidate:
        """Make it what serves at the target, and put that on record."""
        from lyrics_lm.packaging import bentos
        from lyrics_lm.registry import versions
        from lyrics_lm.steps.places import place
        from lyrics_lm.steps.record import record

        if not candidate.goes_on or candidate.version is None or candidate.verdict is None:
            return candidate
        stored = bentos.stored(self._home, candidate.verdict.digest)
        if stored is None:
            return self.deploy(self.import_model(candidate))
        manifest = stored.manifest
        live = LiveVersion(
            version=candidate.version,
            digest=stored.digest,
            name=manifest.name,
            architecture=manifest.architecture,
            bits_per_char=manifest.metrics.bits_per_char,
            bento=bentos.tag(stored.digest),
            path=str(stored.path),
            interval=manifest.metrics.interval,
        )
        strategy = self._settings.params.delivery.strategy
        if strategy == "shadow" and candidate.target != "local":
            raise DeliveryError(
                "a shadow needs prompts, which the local target alone records; set delivery.strategy to direct "
                f"or canary, then deliver to {candidate.target}"
            )
        deployment = place(self._settings, candidate.target).deploy(
            live, candidate.verdict.reason, candidate.verdict, share=_SHARES[strategy]
        )
        record(self._uri, self._home, candidate.target)
        versions.mark_delivered(self._uri, candidate.version, deployment.id)
        self._clean(candidate)
        return replace(candidate, deployment=deployment.id, share=deployment.versions[-1].share)

    STEPS = (
        "fetch_new_model",
        "branch_on_new_model",
        "select_model",
        "import_model",
        "build_bento",
        "validate_bento",
        "deploy",
    )

    def step(self, name: str) -> Callable[[Candidate], Candidate]:
        """The step of that name, one of `STEPS`."""
        found: Callable[[Candidate], Candidate] = getattr(self, name)
        return found

    def _download(self, version: int) -> Path:
        from lyrics_lm.registry import versions

        folder = self._folder(version)
        if not folder.is_dir():
            with durable.directory(folder) as draft:
                versions.fetch(self._uri, version, draft)
        return versions.locate(folder, version)

    def _folder(self, version: int) -> Path:
        return self._home / "candidates" / str(version)

    def _clean(self, candidate: Candidate) -> None:
        if candidate.version is not None:
            shutil.rmtree(self._folder(candidate.version), ignore_errors=True)

    def _bundle(self, candidate: Candidate) -> Bundle:
        return bundle.read(self._path(candidate))

    def _path(self, candidate: Candidate) -> Path:
        """Where its files lie; fetched, when it was another machine that downloaded them."""
        path = Path(candidate.path or "")
        return path if candidate.version is None or path.is_dir() else self._download(candidate.version)

    def _build(self, candidate: Candidate) -> str:
        from lyrics_lm.packaging import bentos

        read = self._bundle(candidate)
        bentos.import_model(self._home, read)
        return bentos.build(self._home, read, candidate.version or 0)

    def _verdict_still_valid(self, version: "Version") -> Verdict | None:
        """A verdict reached before a crash counts only against the champion of that moment."""
        champion = self._champion()
        digest = champion.digest if champion else None
        return version.verdict if version.verdict and version.verdict.champion == digest else None

    def _champion(self) -> Bundle | None:
        """The champion's bundle, from the store, or fetched when this machine never held it."""
        from lyrics_lm.packaging import bentos
        from lyrics_lm.registry import versions

        champion = versions.champion(self._uri)
        if champion is None or champion.digest is None:
            return None
        stored = bentos.stored(self._home, champion.digest)
        return stored or bundle.read(self._download(champion.version))

    def _judge(self, candidate: Candidate) -> Verdict:
        from lyrics_lm.evaluation import conformance

        champion = self._champion()
        against = champion.digest if champion else None
        if candidate.path is None:
            return _rejected("", against, "bundle", candidate.problem or "no bundle")
        path = self._path(candidate)
        signature = self._signature(path)
        if signature and not signature.passed:  # what a stranger made is not even loaded
            return Verdict(bundle.read(path).digest, against, time.time(), (signature,))
        checked = conformance.check(path)
        if checked.failure:
            failure = checked.failure
            return _rejected(checked.digest, against, failure.rule, f"{failure.observed}; {failure.remedy}")
        return self._gates(self._bundle(candidate), champion, signature)

    def _signature(self, path: Path) -> GateResult | None:
        """Whether it is signed as asked; None where nothing is trusted, or where conformance will say what is wrong."""
        from lyrics_lm.evaluation import gate

        trust = signatures.trust(self._settings)
        if trust is None:
            return None
        fault = None
        try:
            read = bundle.read(path)
            signing.verify(read, trust)
        except BundleError:
            return None
        except SignatureError as error:
            fault = str(error)
        return gate.signature(signed=signing.is_signed(read), trusted=Path(trust.file).name, fault=fault)

    def _gates(self, candidate: Bundle, champion: Bundle | None, signature: GateResult | None) -> Verdict:
        from lyrics_lm.evaluation import gate, latency
        from lyrics_lm.inference.engine import Engine

        limits = self._settings.params.gates
        dataset = scores.current_dataset(self._settings)
        ours = self._score(candidate, dataset)
        theirs = self._score(champion, dataset) if champion else None
        milliseconds, champion_milliseconds = latency.interleaved(
            Engine(candidate), Engine(champion) if champion else None
        )
        return gate.judge(
            candidate.digest,
            champion.digest if champion else None,
            time.time(),
            (
                self._better(candidate, champion, ours, theirs, dataset),
                gate.copying(self._copying(candidate, dataset)),
                gate.latency(milliseconds, champion_milliseconds, limits.latency_ratio),
                gate.size(candidate.size, limits.size_mb),
                *([signature] if signature else []),
            ),
        )

    def _better(
        self, candidate: Bundle, champion: Bundle | None, ours: EvalReport, theirs: EvalReport | None, dataset: Path
    ) -> GateResult:
        """After a proved drift, better where traffic went; else, better on the test songs."""
        from lyrics_lm.evaluation import gate
        from lyrics_lm.evaluation.recent import recent_traffic
        from lyrics_lm.steps import retrain

        look = 1 + self._challengers(champion)
        prompts = retrain.gate_prompts(self._settings) if champion else []
        if champion is None or theirs is None or not prompts:
            return gate.quality(ours, theirs, scores.score_bigram(dataset), scores.score_ngram(dataset), look=look)
        tolerance = self._settings.params.gates.tolerance
        on_prompts = scores.score_texts(candidate, prompts, "drifted prompts")
        champions = scores.score_texts(champion, prompts, "drifted prompts")
        return recent_traffic(on_prompts, champions, ours, theirs, tolerance=tolerance, look=look)

    def _challengers(self, champion: Bundle | None) -> int:
        """How many versions were measured against this champion before."""
        from lyrics_lm.registry import versions

        verdicts = [version.verdict for version in versions.every(self._uri) if version.verdict]
        against = [verdict for verdict in verdicts if champion and verdict.champion == champion.digest]
        return sum(any(result.gate in ("quality", "recent traffic") for result in verdict.gates) for verdict in against)

    def _copying(self, of: Bundle, dataset: Path) -> CopyingReport:
        """Kept as scores are."""
        window = self._settings.params.gates.copying
        kept = self._home / "cache" / f"copying-{of.digest[:16]}-{dataset.name}-{window}.json"
        if kept.is_file():
            return from_json(kept.read_bytes(), CopyingReport)
        report = scores.copying(of, self._settings, dataset)
        durable.write(kept, to_json(report))
        return report

    def _score(self, of: Bundle, dataset: Path) -> EvalReport:
        """Scores are kept: neither a bundle nor a test set of this digest ever changes."""
        kept = self._home / "cache" / f"score-{of.digest[:16]}-{dataset.name}.json"
        if kept.is_file():
            return from_json(kept.read_bytes(), EvalReport)
        report = scores.score(of, dataset)
        durable.write(kept, to_json(report))
        return report


def outcome(candidate: Candidate, seconds: float | None = None) -> str:
    """What became of a version, in one line."""
    reason = candidate.verdict.reason if candidate.verdict else "no verdict"
    if candidate.deployment is None:
        return f"version {candidate.version} was rejected: {reason}"
    place = "live" if candidate.share == 100 else f"on trial with {candidate.share}% of the clients"
    return f"version {candidate.version} is {place}{'' if seconds is None else f' after {seconds:.1f} s'}: {reason}"


def _rejected(digest: str | None, champion: str | None, rule: str, reason: str) -> Verdict:
    result = GateResult("conformance", False, rule, "every rule of the contract", f"{rule}: {reason}")
    return Verdict(digest or "", champion, time.time(), (result,))
