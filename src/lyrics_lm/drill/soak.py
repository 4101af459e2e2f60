"""A soak: hours of load with deliveries, new songs and drifting prompts, and whether anything grows meanwhile."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from lyrics_lm.corpus import sample
from lyrics_lm.drill import audit
from lyrics_lm.drill.load import Load, Window, window
from lyrics_lm.drill.loop import Loop

_SAMPLE_SECONDS = 5.0
_EVENT_SECONDS = 30.0
_ROLES = ("service", "controller", "mlflow")
_PARTS = ("traffic", "mlflow", "bentoml", "the rest")  # of the home
_USUAL = ("love is", "the night is young", "all i want", "come home with me", "my heart", "in the morning")
_STRANGE = ("0110 1001", "SHOUT IT", "xyzzy qqq", "12345 67890", "ZZZ ZZZ", "?!?! ?!?!")
_SONGS = 30


@dataclass(frozen=True)
class Moment:
    """Measured at `seconds` since the beginning: by role resident memory in megabytes, and open files; by part the
    home's megabytes; milliseconds to the answer (median, 99th percentile) since the moment before."""

    seconds: float
    memory: dict[str, float]
    files: dict[str, int]
    disk: dict[str, float]
    median_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Soak:
    """A whole soak: what clients met, how often what was done, what was lost, what was not right at the end. `kept`:
    whether no request failed, and all is right at the end."""

    kept: bool
    began: float
    seconds: float
    window: Window
    events: dict[str, int]
    lost: int
    doubled: int
    wrong: tuple[str, ...]
    moments: tuple[Moment, ...]

    def growth(self) -> dict[str, tuple[float, float]]:
        """What each measure was in the second quarter, and in the last (medians): once warm, and at the end."""
        quarter = len(self.moments) // 4
        early, late = self.moments[quarter : 2 * quarter], self.moments[-quarter:]
        return {name: (_typical(early, name), _typical(late, name)) for name in lines(self.moments[:1])}


def soak(loop: Loop, load: Load, minutes: float, say: Callable[[str], None]) -> Soak:
    """Every half minute something happens: a better version, songs in the inbox, prompts of another kind, or room
    is made. Measures every few seconds."""
    load.prompts = _USUAL
    loop.put_live(loop.supply.worst())
    began, moments, events = time.monotonic(), list[Moment](), defaultdict[str, int](int)
    deeds = (_deliver, _songs, _deliver, _shift, _deliver, _make_room)
    heard, due, turn = loop.said, began + _EVENT_SECONDS, 0
    while (now := time.monotonic()) < began + 60 * minutes:
        moments.append(_measured(loop, load, now - began))
        if now >= due:
            name = deeds[turn % len(deeds)](loop, load)
            events[name] += 1
            due, turn = now + _EVENT_SECONDS, turn + 1
            say(f"{(now - began) / 60:.0f} of {minutes:.0f} minutes; {name}")
        time.sleep(max(0.0, now + _SAMPLE_SECONDS - time.monotonic()))
    end = time.monotonic()
    time.sleep(1)
    answers = load.between(began, end)
    wrong = audit.faults(loop, answers)
    told = loop.said.removeprefix(heard)
    events["trainings"] = told.count("  training ")
    events["drift alarms"] = told.count("drift: ")
    events["versions live"] = told.count(" is live ")
    log, seen = audit.log(loop, answers), window(answers, began, end)
    return Soak(
        kept=not (wrong or log.doubled or seen.failed),
        began=time.time() - (end - began),
        seconds=end - began,
        window=seen,
        events=dict(events),
        lost=log.lost,
        doubled=log.doubled,
        wrong=tuple(wrong),
        moments=tuple(moments),
    )


def lines(moments: Sequence[Moment]) -> dict[str, list[float]]:
    """Every measure over the moments, by name and unit."""
    found: dict[str, list[float]] = {}
    for role in _ROLES:
        found[f"memory of {role} (MB)"] = [one.memory[role] for one in moments]
    for role in _ROLES:
        found[f"open files of {role}"] = [float(one.files[role]) for one in moments]
    for part in _PARTS:
        found[f"disk of {part} (MB)"] = [one.disk[part] for one in moments]
    found["median answer (ms)"] = [one.median_ms for one in moments]
    found["slowest 1% (ms)"] = [one.p99_ms for one in moments]
    return found


def _typical(moments: Sequence[Moment], name: str) -> float:
    values = lines(moments)[name]
    return median(values) if values else float("nan")


def _deliver(loop: Loop, load: Load) -> str:
    """A version that beats the last, a few times over; then one to beat again."""
    if loop.supply.is_exhausted:
        loop.put_live(loop.supply.worst())
    loop.register(loop.supply.better())
    return "a better version"


def _songs(loop: Loop, load: Load) -> str:
    inbox = loop.workspace / "data" / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    draft = loop.workspace.parent / "songs-for-inbox.csv"
    sample.write(draft, songs=_SONGS, seed=int(time.time()))
    draft.rename(inbox / f"songs-{int(time.time())}.csv")
    return "new songs"


def _shift(loop: Loop, load: Load) -> str:
    load.prompts = _STRANGE if load.prompts == _USUAL else _USUAL
    return "other prompts"


def _make_room(loop: Loop, load: Load) -> str:
    loop.run("gc")
    return "room made"


def _measured(loop: Loop, load: Load, seconds: float) -> Moment:
    memory, files = {}, {}
    for role in _ROLES:
        sizes = [_size(process) for process in loop.processes(role)]
        memory[role], files[role] = sum(one for one, _ in sizes), sum(many for _, many in sizes)
    now = time.monotonic()
    recent = window(load.between(now - _SAMPLE_SECONDS, now - 0.5), now - _SAMPLE_SECONDS, now)
    return Moment(seconds, memory, files, _disk(loop.home), recent.median_ms, recent.p99_ms)


def _size(process: psutil.Process) -> tuple[float, int]:
    try:
        return process.memory_info().rss / 1e6, process.num_fds()
    except psutil.Error:
        return 0.0, 0


def _disk(home: Path) -> dict[str, float]:
    sizes = dict.fromkeys(_PARTS, 0.0)
    for path in home.rglob("*"):
        part = path.relative_to(home).parts[0]
        with contextlib.suppress(FileNotFoundError):
            sizes[part if part in sizes else _PARTS[-1]] += path.lstat().st_size / 1e6
    return sizes
