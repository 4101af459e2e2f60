"""The gates: pure functions from what was measured to a verdict. Read no file, no clock, no registry."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from lyrics_lm.records import CopyingReport, EvalReport, GateResult, Verdict

_RESAMPLES = 10_000
_AT_ONCE = 1_000
_TAIL = 0.025
_RESOLVED = 3  # resamples beyond a quantile, fewer of which would not tell where it is
_SEED = 2015
_EXCESS = 0.01  # of all runs of characters: what a model may copy beyond coincidence
# Bits per character within which two reports are equal: rounding of float32 logits.
_TIE = 1e-6


@dataclass(frozen=True)
class Interval:
    """Bits per character, or a difference of them, candidate minus baseline (below 0: the candidate is better),
    and the interval around it, which is unbounded where there are too few songs, or losses that are no numbers,
    to tell."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def quality(
    candidate: EvalReport, champion: EvalReport | None, bigram: EvalReport, ngram: EvalReport, *, look: int = 1
) -> GateResult:
    """Fewer bits per character are better. The one place that knows the direction.

    With a champion, the interval of (candidate - champion) must lie entirely below 0, at the level of this
    `look` (see `level`). With none, the 95% interval of (candidate - bigram) must not reach above 0: the bigram
    itself passes, as the floor; the reason names the n-gram too, which is what a trained model has to beat.
    Raises `ValueError` when the reports are not of the same songs.
    """
    if champion is None:
        tail, whose, baseline = _TAIL, "the bigram's", bigram
        interval = compare(candidate, bigram)
        passed, asked = interval.high <= _TIE, "95% interval of the difference to the bigram's not above 0"
        other = f" ({ngram.model}: {ngram.bits_per_char:.3f})"
    else:
        tail, whose, baseline, other = level(look), "the champion's", champion, ""
        interval = compare(candidate, champion, tail=tail)
        passed = interval.high < -_TIE
        sure = f"{100 * (1 - 2 * tail):.6g}%"
        asked = f"{sure} interval of the difference to the champion's below 0 (its {_nth(look)} challenger)"
    scores = f"{candidate.bits_per_char:.3f} bits per character against {whose} {baseline.bits_per_char:.3f}{other}"
    return GateResult(
        gate="quality",
        passed=passed,
        observed=f"{interval} bits per character on {len(candidate.songs)} songs",
        threshold=asked,
        reason=scores if passed else f"{scores}{_why_not(interval, len(candidate.songs), tail)}",
    )


def level(look: int) -> float:
    """The chance at which a champion's so many-th challenger may be promoted though it is no better.

    Every look at the same test songs is another chance for luck, so each gets less than the one before:
    2.5% / (k (k + 1)), which over any number of looks adds up to 2.5% (alpha spending; Lan and DeMets,
    "Discrete sequential boundaries for clinical trials", 1983). That is how often a champion is ever replaced
    by one that is no better. The count begins anew with each champion.
    """
    return _TAIL / (look * (look + 1))


def fewest_songs(tail: float) -> int:
    """Songs without which nothing is shown: on n of them an equal model is better throughout with probability 2^-n."""
    return math.ceil(-math.log2(tail))


def spread(report: EvalReport) -> Interval:
    """Bits per character with their 95% interval, by bootstrap over songs."""
    return interval(np.array(report.bits), np.array(report.chars, dtype=np.float64))


def interval(bits: npt.NDArray[np.float64], chars: npt.NDArray[np.float64]) -> Interval:
    """The same of any songs, from the bits and characters of each (songs)."""
    return _interval(bits, chars, _TAIL)


def copying(report: CopyingReport) -> GateResult:
    """Of what the model writes, hardly more may stand in the training songs than of songs it never saw: the 95%
    interval of the difference must not lie above one window in a hundred."""
    observed = f"{report.share:.2%} of its runs of {report.window} characters, longest {report.longest}"
    base = f"{report.test_share:.2%} of the test songs', longest {report.test_longest}"
    passed = report.excess_low <= _EXCESS
    said = f"{observed}, stand in training songs, and {base}"
    worst = f"; most of all {report.worst[0].song}" if report.worst and not passed else ""
    return GateResult(
        gate="copying",
        passed=passed,
        observed=observed,
        threshold=f"at most {_EXCESS:.0%} above the test songs' {report.test_share:.2%}",
        reason=said if passed else f"it copies: {said}{worst}",
    )


def latency(candidate_ms: float, champion_ms: float | None, limit: float) -> GateResult:
    """Milliseconds per token, candidate over champion, at most `limit`; passes where there is no champion."""
    if champion_ms is None:
        observed = f"{candidate_ms:.2f} ms per token"
        return GateResult("latency", True, observed, "none without a champion", f"{observed}, no champion to compare")
    ratio = candidate_ms / champion_ms
    times = f"{candidate_ms:.2f} ms per token, {ratio:.2f} times the champion's {champion_ms:.2f}"
    passed = ratio <= limit
    reason = times if passed else f"{times}; at most {limit:g} times is allowed (gates.latency_ratio)"
    return GateResult("latency", passed, f"{ratio:.2f} times the champion's", f"at most {limit:g} times", reason)


def size(size_bytes: int, limit_mb: float) -> GateResult:
    """Bytes of the bundle, at most `limit_mb` megabytes (of 1,000,000 bytes)."""
    observed = f"{size_bytes / 1e6:.2f} MB"
    passed = size_bytes <= limit_mb * 1e6
    limit = f"at most {limit_mb:g} MB"
    reason = f"{observed} in all" if passed else f"{observed} in all; {limit} is allowed (gates.size_mb)"
    return GateResult("size", passed, observed, limit, reason)


def signature(*, signed: bool, trusted: str, fault: str | None = None) -> GateResult:
    """What verifying came to: a `fault` turns the version away."""
    observed = "signed" if signed else "not signed"
    reason = f"{observed}, as asked" if fault is None else fault
    return GateResult("signature", fault is None, observed, f"what {trusted} trusts signed it", reason)


def judge(digest: str, champion: str | None, time: float, gates: tuple[GateResult, ...]) -> Verdict:
    """The verdict on the bundle `digest` against the champion of that moment; passes when every gate does.

    Raises `ValueError` without gates: nothing checked is nothing passed.
    """
    if not gates:
        raise ValueError("a verdict needs at least one gate")
    return Verdict(digest, champion, time, gates)


def compare(candidate: EvalReport, baseline: EvalReport, *, tail: float = _TAIL) -> Interval:
    """Difference of bits per character with its interval (95% where a tail is 2.5%), by paired bootstrap over songs.

    Songs are drawn with replacement, both models' losses together, and the statistic is
    (sum bits_c - sum bits_b) / sum chars of the draw (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, section 13.3). The tails of the percentile interval are widened for few songs as
    Hesterberg has it ("What Teachers Should Know About the Bootstrap", arXiv 1411.5279,
    the expanded percentile interval). Seeded: the same reports give the same interval.
    """
    _require_same_songs(candidate, baseline)
    differences = np.subtract(candidate.bits, baseline.bits)  # (songs)
    chars = np.array(candidate.chars, dtype=np.float64)
    return _interval(differences, chars, tail)


def _interval(bits: npt.NDArray[np.float64], chars: npt.NDArray[np.float64], tail: float) -> Interval:
    """sum bits / sum chars over songs, and between what it lies but for a chance of `tail` on either side."""
    value = float(bits.sum() / chars.sum())
    if not bits.any():
        return Interval(0.0, 0.0, 0.0)
    if len(bits) < fewest_songs(tail) or not math.isfinite(value):
        return Interval(value, -math.inf, math.inf)
    drawn = _bootstrap(bits, chars)
    tail = _expanded_tail(len(bits), tail)
    if tail * _RESAMPLES >= _RESOLVED:
        low, high = np.quantile(drawn, [tail, 1 - tail])
    else:  # so far out the draws are too few: go on as the normal distribution of their width does
        low, high = drawn.mean() + drawn.std() * special.ndtri([tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _bootstrap(bits: npt.NDArray[np.float64], chars: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The statistic of `_RESAMPLES` draws, some at once so that memory does not grow with their number."""
    random = np.random.default_rng(_SEED)
    songs = len(bits)
    statistics = []
    for _ in range(_RESAMPLES // _AT_ONCE):
        picks = random.integers(songs, size=(_AT_ONCE, songs))
        statistics.append(bits[picks].sum(axis=1) / chars[picks].sum(axis=1))
    return np.concatenate(statistics)


def _expanded_tail(songs: int, tail: float) -> float:
    """Tail to cut so that few songs give the width of Student's t rather than the normal's."""
    t = float(special.stdtrit(songs - 1, tail))
    return float(special.ndtr(math.sqrt(songs / (songs - 1)) * t))


def _require_same_songs(candidate: EvalReport, baseline: EvalReport) -> None:
    if (candidate.split, candidate.songs, candidate.chars) != (baseline.split, baseline.songs, baseline.chars):
        raise ValueError(
            f"{len(candidate.songs)} songs of {candidate.split} and {len(baseline.songs)} of {baseline.split} "
            "are not the same songs; score both models on one split"
        )
    if sum(candidate.chars) == 0:
        raise ValueError(f"the songs of {candidate.split} hold no characters; score on songs with text")


def _why_not(interval: Interval, songs: int, tail: float) -> str:
    if not math.isfinite(interval.difference):
        return "; a loss without a number proves nothing"
    if math.isinf(interval.high):
        return f"; {songs} test songs cannot show a difference, at least {fewest_songs(tail)} are needed"
    if interval.low > 0:
        return "; it is worse"
    return f"; not shown to be better, the difference is {interval}"


def _nth(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{suffix}"
