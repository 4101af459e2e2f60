"""What a fault is, and what came of one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lyrics_lm.drill.load import Load, Window
from lyrics_lm.drill.loop import Loop
from lyrics_lm.errors import LyricsError

Inject = Callable[[Loop, Load], str]


class NotHere(LyricsError):
    """This machine does not let the fault be made; nothing was tried."""


@dataclass(frozen=True)
class Fault:
    """`inject` makes it, returns once the loop has recovered, with a line about what was done, and raises
    `LyricsError` where it does not recover. `success` (share of requests) and `outage` (seconds) are what is
    promised to clients meanwhile; `when`: in which drill it is made. `rate`: requests a second, where not the usual."""

    name: str
    inject: Inject
    success: float = 1.0
    outage: float = 5.0
    when: Literal["long", "short", "both"] = "long"
    rate: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What a fault did. `kept`: whether every promise was. `recovered`: seconds until all was as it must be. `lost`:
    requests that were answered, and are not in the traffic log (`doubled`: twice). `wrong`: what was not right at the
    end, in words. `skipped`: why it could not be tried."""

    fault: str
    kept: bool
    done: str
    window: Window
    recovered: float
    lost: int
    doubled: int
    wrong: tuple[str, ...]
    skipped: str = ""
