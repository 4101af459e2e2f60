"""The gate after a drift asks for a gain where traffic went, and bounds the loss elsewhere."""

import math

import numpy as np
import pytest

from lyrics_lm.evaluation.recent import recent_traffic
from lyrics_lm.records import EvalReport


def report(bits_per_char, split, seed=0, texts=60):
    noise = np.random.default_rng(seed).normal(0, 0.1, size=texts)
    return EvalReport(
        model="m",
        split=split,
        songs=tuple(map(str, range(texts))),
        nats=tuple(((bits_per_char + noise) * 40 * math.log(2)).tolist()),
        tokens=(40,) * texts,
        chars=(40,) * texts,
        unknown=(0,) * texts,
    )


def judged(prompts, test):
    champion_prompts, champion_test = report(3.0, "prompts"), report(2.0, "test")
    return recent_traffic(
        report(prompts, "prompts", seed=1),
        champion_prompts,
        report(test, "test", seed=1),
        champion_test,
        tolerance=0.05,
    )


@pytest.mark.parametrize(
    ("prompts", "test", "passed", "reason"),
    [
        (2.5, 1.9, True, "drifted prompts"),
        (2.5, 2.0, True, "drifted prompts"),
        (3.0, 1.5, False, "not shown to be better where traffic drifted"),
        (2.5, 2.2, False, "gates.tolerance"),
    ],
)
def test_both_halves_must_hold(prompts, test, passed, reason):
    """Better on drifted prompts and hardly worse on the test songs passes; one of them alone does not."""
    result = judged(prompts, test)
    assert result.passed is passed
    assert reason in result.reason
