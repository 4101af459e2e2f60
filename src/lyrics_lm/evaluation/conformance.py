"""The conformance suite: every rule of the contract, tried in turn. Judges form, never quality."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lyrics_lm.errors import BundleError, ConformanceError
from lyrics_lm.evaluation.rules import RULES, Broken, Rule, Trial
from lyrics_lm.inference.engine import Engine
from lyrics_lm.records import KnownAnswer


@dataclass(frozen=True)
class RuleResult:
    """One rule: what was observed, and what to do about it (empty where it passed)."""

    rule: str
    passed: bool
    observed: str
    remedy: str


@dataclass(frozen=True)
class Conformance:
    """The rules tried, in order. `digest` is None where the directory is no bundle; times in seconds."""

    digest: str | None
    rules: tuple[RuleResult, ...]
    size_bytes: int
    load_seconds: float

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    @property
    def failure(self) -> RuleResult | None:
        """The first failing rule."""
        return next((rule for rule in self.rules if not rule.passed), None)


def check(directory: Path) -> Conformance:
    """Try every rule on `directory`; a rule that others build on ends the suite where it fails.

    Whatever is wrong with the bundle becomes a failing rule, never an exception.
    """
    trial = Trial(directory)
    results: list[RuleResult] = []
    for rule in RULES:
        results.append(_try(rule, trial))
        if rule.needed and not results[-1].passed:
            break
    opened = trial.bundle
    return Conformance(
        digest=opened.digest if opened else None,
        rules=tuple(results),
        size_bytes=opened.size if opened else 0,
        load_seconds=trial.load_seconds,
    )


def known_answer(engine: Engine, tokens: Sequence[int]) -> KnownAnswer:
    """What `engine` answers to `tokens` (at least one): the logits (V) after the last, to six decimals."""
    logits, _ = engine.advance([np.array(tokens, dtype=np.int64)], engine.start())
    return KnownAnswer(tuple(int(token) for token in tokens), tuple(round(float(value), 6) for value in logits[0]))


def _try(rule: Rule, trial: Trial) -> RuleResult:
    try:
        return RuleResult(rule.name, True, rule.test(trial), "")
    except Broken as broken:
        return RuleResult(rule.name, False, broken.observed, broken.remedy)
    except (BundleError, ConformanceError) as error:
        fact, told, remedy = str(error).rpartition("; ")
        return RuleResult(rule.name, False, fact if told else remedy, remedy if told else "export it again")
