"""The verdict on a version that is tried beside the one that serves: promote, abort, or not enough evidence yet.

Both score the same prompts, so what makes prompts hard cancels, and a few hundred prompts can tell what two halves of
the traffic could not. A challenger is promoted when it is proved better on them, and sent away when it is proved
worse, when more of its answers fail than the budget allows, or when it is too slow. Each proof holds at any time
(`wager`): a version that is no better is ever promoted with a chance of at most `LEVEL`. Between them lies everything
that this much traffic cannot tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import numpy.typing as npt

from lyrics_lm.evaluation.wager import Wager, after

LEVEL = 0.025
_CLIP = 1.0  # bits per character; a larger difference on one prompt counts as this
_STAGES = (5, 25, 100)  # percent of clients
_STAGE_ANSWERS = 20  # of the challenger, before its share grows
_PACES = 200  # answers that say how fast a version is
_FEW = 20
_SEEN = 20_000  # prompts remembered, so that each counts once


@dataclass(frozen=True)
class Policy:
    """What was agreed before the trial. `max_errors` is a share of the answers, `slower` a ratio of times per token,
    `max_pace` milliseconds per token, `decide_within` seconds; `undecided` is what becomes of it then."""

    max_errors: float
    slower: float
    max_pace: float
    decide_within: float
    undecided: str
    approval: bool


@dataclass(frozen=True)
class Trial:
    """All that is known of a trial, or of a version that took over and is still watched. `difference` sums bits per
    character (challenger - champion) over `prompts`; paces are milliseconds per token; `written` is how far the
    traffic log was read, `restarts` how often a process that served it died."""

    id: str
    champion: str
    challenger: str
    began: float
    share: int
    written: float
    better: Wager
    worse: Wager
    failing: Wager
    seen: tuple[int, ...] = ()
    prompts: int = 0
    difference: float = 0.0
    answers: int = 0
    stage_answers: int = 0
    errors: int = 0
    champion_paces: tuple[float, ...] = ()
    challenger_paces: tuple[float, ...] = ()
    restarts: int = 0

    @property
    def mean(self) -> float:
        """Bits per character, challenger - champion, over the prompts; below 0 is better."""
        return self.difference / self.prompts if self.prompts else 0.0

    @property
    def slower(self) -> float | None:
        """Time per token over the champion's, while both answer; None before both have answered enough."""
        if self.share == 100 or min(len(self.champion_paces), len(self.challenger_paces)) < _FEW:
            return None  # at other times, under another load, the champion's says nothing
        return median(self.challenger_paces) / median(self.champion_paces)

    @property
    def pace(self) -> float | None:
        """Milliseconds per token; None before it has answered enough."""
        return median(self.challenger_paces) if len(self.challenger_paces) >= _FEW else None


@dataclass(frozen=True)
class Decision:
    """`action` is hold, widen, promote or abort; `share` what the challenger gets then (percent)."""

    action: str
    share: int
    reason: str


def begin(id: str, champion: str, challenger: str, began: float, share: int, policy: Policy) -> Trial:
    """Nothing known yet."""
    return Trial(
        id,
        champion,
        challenger,
        began,
        share,
        written=began,
        better=Wager(0.0, -_CLIP),
        worse=Wager(0.0, -_CLIP),
        failing=Wager(policy.max_errors, 0.0),
    )


def compared(trial: Trial, prompts: Sequence[int], differences: Sequence[float] | npt.NDArray[np.float64]) -> Trial:
    """After prompts (by their hashes) that both scored: bits per character, challenger - champion, of each."""
    clipped = np.clip(np.array(differences, dtype=np.float64), -_CLIP, _CLIP)
    return replace(
        trial,
        better=after(trial.better, -clipped),
        worse=after(trial.worse, clipped),
        seen=(*trial.seen, *prompts)[-_SEEN:],
        prompts=trial.prompts + len(clipped),
        difference=trial.difference + float(clipped.sum()),
    )


def answered(trial: Trial, failed: Sequence[bool], paces: Sequence[float], champion_paces: Sequence[float]) -> Trial:
    """After answers of the challenger, each failed or not; and how fast both were."""
    return replace(
        trial,
        failing=after(trial.failing, [float(one) for one in failed]),
        answers=trial.answers + len(failed),
        stage_answers=trial.stage_answers + len(failed),
        errors=trial.errors + sum(failed),
        challenger_paces=(*trial.challenger_paces, *paces)[-_PACES:],
        champion_paces=(*trial.champion_paces, *champion_paces)[-_PACES:],
    )


def widened(trial: Trial, share: int) -> Trial:
    """At another share, whoever gave it."""
    return replace(trial, share=share, stage_answers=0) if share != trial.share else trial


def fault(trial: Trial, policy: Policy) -> str | None:
    """Why the version must not serve, whatever it scores."""
    if trial.restarts > 2:
        return f"the process that serves it died {trial.restarts} times"
    if trial.failing.proves(LEVEL):
        return f"{trial.errors} of {trial.answers} answers failed, more than {policy.max_errors:.1%} can explain"
    slower = trial.slower
    if slower is not None and slower > policy.slower:
        return f"it takes {slower:.1f} times as long per token, and {policy.slower:g} times is the most"
    if trial.pace is not None and trial.pace > policy.max_pace:
        return f"it takes {trial.pace:.0f} ms per token, and {policy.max_pace:g} ms is the most"
    return None


def decide(trial: Trial, now: float, policy: Policy) -> Decision:
    """What to do with the challenger now."""
    if found := fault(trial, policy):
        return Decision("abort", 0, found)
    if trial.worse.proves(LEVEL):
        return Decision("abort", 0, f"proved worse: {told(trial)}")
    proved = trial.better.proves(LEVEL)
    if proved and policy.approval:
        return Decision("hold", trial.share, f"proved better, and waits for `lyrics-lm promote`: {told(trial)}")
    enough = trial.stage_answers >= _STAGE_ANSWERS
    share = next(stage for stage in _STAGES if stage > trial.share)
    if proved and (enough or not trial.share):  # in the shadow, answers count for themselves
        last = share == 100 or not trial.share
        return Decision("promote", 100, f"proved better: {told(trial)}") if last else _wider(trial, share)
    if now - trial.began > policy.decide_within and policy.undecided != "hold":
        share = {"promote": 100, "abort": 0}[policy.undecided]
        return Decision(policy.undecided, share, f"undecided in {policy.decide_within:g} s: {told(trial)}")
    if enough and trial.share > 0 and share < 100:
        return _wider(trial, share)
    return Decision("hold", trial.share, f"not enough evidence yet: {told(trial)}")


def told(trial: Trial) -> str:
    """The evidence in words."""
    return (
        f"{trial.mean:+.4f} bits per character on {trial.prompts} prompts "
        f"(better {trial.better.capital:.3g}, worse {trial.worse.capital:.3g}, proof {1 / LEVEL:g}), "
        f"{trial.errors} of {trial.answers} answers failed"
    )


def _wider(trial: Trial, share: int) -> Decision:
    return Decision("widen", share, f"{share}% of clients after {trial.stage_answers} answers: {told(trial)}")
