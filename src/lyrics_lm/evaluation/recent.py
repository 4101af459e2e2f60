"""The gate after a drift: better on the prompts that drifted, and hardly worse on the frozen test. Pure."""

from lyrics_lm.evaluation import gate
from lyrics_lm.records import EvalReport, GateResult


def recent_traffic(
    prompts: EvalReport,
    champion_prompts: EvalReport,
    test: EvalReport,
    champion_test: EvalReport,
    *,
    tolerance: float,
    look: int = 1,
) -> GateResult:
    """Interval of (candidate - champion), paired by prompt and at the level of this `look`, entirely below 0 bits
    per character; and the 95% interval on the test songs not above `tolerance`.

    The prompts are the different ones since the drift began. Raises `ValueError` when the reports of a pair are not
    of the same texts.
    """
    tail = gate.level(look)
    better = gate.compare(prompts, champion_prompts, tail=tail)
    worse = gate.compare(test, champion_test)
    reasons = [
        f"{prompts.bits_per_char:.3f} bits per character against the champion's {champion_prompts.bits_per_char:.3f} "
        f"on {len(prompts.songs)} drifted prompts, {test.bits_per_char:.3f} against "
        f"{champion_test.bits_per_char:.3f} on the test songs"
    ]
    if better.high >= 0:
        reasons.append(f"not shown to be better where traffic drifted, the difference is {better}")
    if worse.high > tolerance:
        reasons.append(f"it may lose more than {tolerance:g} on the test songs (gates.tolerance): {worse}")
    return GateResult(
        gate="recent traffic",
        passed=len(reasons) == 1,
        observed=f"{better} on drifted prompts, {worse} on the test songs",
        threshold=f"{100 * (1 - 2 * tail):.6g}% interval below 0, and 95% interval at most {tolerance:g}",
        reason="; ".join(reasons),
    )
