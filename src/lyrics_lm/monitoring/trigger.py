"""When to retrain, and what for: a pure function of what is known. Trains nothing, waits for nothing."""

from dataclasses import dataclass
from typing import Literal

Action = Literal["rest", "train", "judge again", "learn from traffic", "tell"]


@dataclass(frozen=True)
class Situation:
    """What the decision rests on.

    `due`: the committed inputs were never trained. `by_itself`: they were committed by the loop, not by a person.
    `alarm`: the drift that is proved and not answered yet, in words. `reconsider`: a version that knows other songs
    than the champion's and was turned down before the drift. `prompts`: whether drifted prompts may be learnt
    from and were not yet. `since_last`: seconds since the loop last retrained by itself (None: it never did).
    """

    due: bool
    by_itself: bool
    corpus: str
    alarm: str | None
    reconsider: int | None
    prompts: bool
    since_last: float | None
    cooldown: float


@dataclass(frozen=True)
class Decision:
    """What to do, and because of what."""

    action: Action
    cause: str


def decide(seen: Situation) -> Decision:
    """One step at a time; the same evidence is never answered twice.

    A person's commit is trained at once. What the loop does by itself waits for the cooldown, except for the first
    answer to an alarm that finds new songs at hand. An alarm is answered by new songs, else by a version turned
    down before it, else by the prompts themselves where that is allowed, else in words.
    """
    cooled = seen.since_last is None or seen.since_last >= seen.cooldown
    if seen.due:
        if seen.by_itself and not cooled and seen.alarm is None:
            return Decision("rest", f"new songs wait: the last retraining was {seen.since_last:.0f} s ago")
        songs = f"new songs (corpus {seen.corpus[:12]})" if seen.by_itself else "a commit"
        return Decision("train", f"{seen.alarm}; {songs}" if seen.alarm else songs)
    if seen.alarm is None:
        return Decision("rest", "nothing new")
    if seen.reconsider is not None:
        return Decision("judge again", f"{seen.alarm}; version {seen.reconsider} knows other songs")
    if seen.prompts:
        if not cooled:
            return Decision("rest", f"the prompts wait: the last retraining was {seen.since_last:.0f} s ago")
        return Decision("learn from traffic", f"{seen.alarm}; the prompts themselves")
    return Decision("tell", seen.alarm)
