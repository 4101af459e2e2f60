"""A drill: one fault after another under a steady load, on a loop made for it or on a copy of a person's own."""

import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from lyrics_lm import params
from lyrics_lm.corpus import sample
from lyrics_lm.drill import audit
from lyrics_lm.drill import soak as soaking
from lyrics_lm.drill.fault import Fault, NotHere, Outcome
from lyrics_lm.drill.load import Load, window
from lyrics_lm.drill.loop import Loop
from lyrics_lm.drill.soak import Soak
from lyrics_lm.errors import LyricsError, ParamsError, WorkspaceError
from lyrics_lm.params import Settings
from lyrics_lm.steps.init import init

RATE = 20.0  # requests a second
_SONGS = 400
_SETTLE_SECONDS = 1.0
_LAST = 0.2  # seconds: answers that are still under way when a window ends
_SETTINGS = (
    "model.name=bigram",
    "serving.workers=2",
    "delivery.strategy=direct",
    "drift.reference=100000",
    "gates.latency_ratio=1000",
    "signing.require_signature=false",
)
_SOAK = ("drift.reference=300", "drift.cooldown=60", "drift.debounce=3")
_DATABASE = "mlflow/mlflow.db"
_NOT_COPIED = shutil.ignore_patterns("*.lock", "server.url", "logs", "airflow", "mlflow.db*", "trees", "connection*")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """A whole drill: when, on what machine, against which loop, at how many requests a second."""

    began: float
    seconds: float
    machine: str
    loop: str
    rate: float
    outcomes: tuple[Outcome, ...]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return all(outcome.kept or outcome.skipped for outcome in self.outcomes)


def chosen(names: Sequence[str], *, short: bool) -> list[Fault]:
    """The faults of those names; without names all, or those of the short drill.

    Raises `ParamsError` for a name that no fault has.
    """
    from lyrics_lm.drill.faults import FAULTS

    known = [fault.name for fault in FAULTS]
    for name in names:
        if name not in known:
            raise ParamsError(f"{name!r} is no fault; there are: {', '.join(known)}")
    if names:
        return [fault for fault in FAULTS if fault.name in names]
    return [fault for fault in FAULTS if fault.when in ("both", "short" if short else "long")]


def drill(faults: Sequence[Fault], say: Callable[[Outcome], None], *, here: Settings | None = None) -> Report:
    """Make each fault in turn; `say` is told of each. `here`: a workspace to copy, in place of a new one."""
    began = time.time()
    with _loop(here) as loop, Load(loop.url, RATE) as load:
        outcomes: list[Outcome] = []
        for fault in faults:
            told = {wrong for outcome in outcomes for wrong in outcome.wrong}
            outcomes.append(_made(loop, load, fault, told))
            say(outcomes[-1])
    return Report(
        began=began,
        seconds=time.time() - began,
        machine=machine(),
        loop=f"a copy of {here.root}" if here else f"a new workspace of {_SONGS} sample songs",
        rate=RATE,
        outcomes=tuple(outcomes),
    )


def soak(minutes: float, say: Callable[[str], None], *, here: Settings | None = None) -> Soak:
    """Load, deliveries, new songs and drift for so long, on such a loop."""
    with _loop(here, _SOAK) as loop, Load(loop.url, RATE) as load:
        return soaking.soak(loop, load, minutes, say)


def machine() -> str:
    """What this drill ran on, in a few words."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}"


def _made(loop: Loop, load: Load, fault: Fault, told: set[str]) -> Outcome:
    """Make one, and look; what was wrong before already is not this one's."""
    load.rate = fault.rate or RATE
    time.sleep(_SETTLE_SECONDS)
    began, wrong, done, skipped = time.monotonic(), list[str](), "", ""
    try:
        done = fault.inject(loop, load)
    except NotHere as error:
        skipped = str(error)
    except LyricsError as error:
        wrong.append(str(error))
    recovered = time.monotonic() - began
    load.rate = RATE
    time.sleep(_SETTLE_SECONDS)
    end = time.monotonic()
    time.sleep(_LAST)
    answers = load.between(began, end)
    wrong += [one for one in audit.faults(loop, answers) if one not in told]
    log = audit.log(loop, answers)
    seen = window(answers, began, end)
    right = not wrong and not log.doubled
    return Outcome(
        fault=fault.name,
        kept=right and seen.success >= fault.success and seen.outage <= fault.outage,
        done=done,
        window=seen,
        recovered=recovered,
        lost=log.lost,
        doubled=log.doubled,
        wrong=tuple(wrong),
        skipped=skipped,
    )


@contextmanager
def _loop(here: Settings | None, settings: Sequence[str] = ()) -> Iterator[Loop]:
    """A loop that runs, with something live; gone with its folder at the end."""
    with tempfile.TemporaryDirectory(prefix="lyrics-lm-drill-", ignore_cleanup_errors=True) as name:
        place = Path(name).resolve()
        loop = Loop(_copy(here, place) if here else _new(place))
        params.override(loop.workspace, [*_SETTINGS, *settings])
        loop.commit()
        try:
            loop.start()
            loop.wait("a first version to be live", loop.live)
            loop.wait_idle()
            yield loop
        finally:
            loop.stop()


def _new(place: Path) -> Path:
    """A workspace of sample songs."""
    songs, workspace = place / "songs.csv", place / "mine"
    sample.write(songs, songs=_SONGS)
    init(workspace, [songs])
    return workspace


def _copy(here: Settings, place: Path) -> Path:
    """A person's workspace with its home, which may be in use meanwhile; nothing of it is written to."""
    if here.tracking_uri:
        raise WorkspaceError(
            f"the registry of {here.root} is at {here.tracking_uri}, which a drill must leave alone; "
            "run it without --here"
        )
    workspace = place / "mine"
    shutil.copytree(here.root, workspace, ignore=_without(here), symlinks=True)
    home = workspace / ".lyrics-lm"
    shutil.copytree(here.home, home, ignore=_NOT_COPIED, symlinks=True, dirs_exist_ok=True)
    database = here.home / _DATABASE
    if database.is_file():
        with sqlite3.connect(database) as source, sqlite3.connect(home / _DATABASE) as copy:
            source.backup(copy)
    for file in (home / "rollouts").glob("*.json"):  # bundles lie elsewhere now
        file.write_text(file.read_text().replace(str(here.home), str(home)))
    return workspace


def _without(here: Settings) -> Callable[[str, list[str]], list[str]]:
    """Leaves the home out where it lies in the workspace."""
    return lambda folder, names: [name for name in names if Path(folder) / name == here.home]
