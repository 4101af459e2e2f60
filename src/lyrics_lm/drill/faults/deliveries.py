"""Deliveries that are killed in and between their steps, done by two at once, and by the thousand."""

import time
from collections.abc import Callable
from pathlib import Path

from lyrics_lm import processes, rollout
from lyrics_lm.deployment.local import Local
from lyrics_lm.drill.fault import Inject
from lyrics_lm.drill.load import Load
from lyrics_lm.drill.loop import Loop, NotRecovered, kill
from lyrics_lm.packaging import bentos
from lyrics_lm.records import GateResult, Verdict
from lyrics_lm.registry import versions

_SOON = 0.002  # seconds: a step leaves its first trace for no longer
_ENDS_SECONDS = 60.0

Seen = Callable[[Loop, int, str], object]

# What can be seen from outside at that moment of the delivery of a version, given with its number and digest.
MOMENTS: dict[str, Seen] = {
    "in fetch_new_model": lambda loop, number, _: any((loop.home / "candidates").glob(f".{number}.*.tmp")),
    "after fetch_new_model": lambda loop, number, _: (loop.home / "candidates" / str(number)).is_dir(),
    "in select_model": lambda loop, _, digest: any((loop.home / "cache").glob(f"score-{digest[:16]}*")),
    "after select_model": lambda loop, number, _: versions.get(loop.uri, number).verdict,
    "in import_model": lambda loop, _, digest: _stored(loop, "models", digest).exists(),
    "after import_model": lambda loop, _, digest: bentos.stored(loop.home, digest),
    "in build_bento": lambda loop, _, digest: _stored(loop, "bentos", digest).exists(),
    "after build_bento": lambda loop, _, digest: bentos.built(loop.home, digest),
    "in validate_bento": lambda loop, *_: processes.leftovers(loop.home, "validation"),
    "in deploy": lambda loop, number, _: _deployed(loop, number),
    "after deploy": lambda loop, number, _: versions.get(loop.uri, number).delivered,
}


def killed(moment: str) -> Inject:
    """The controller is killed at that moment of a delivery; the next one takes it up."""

    def inject(loop: Loop, load: Load) -> str:
        loop.put_live(loop.supply.worst())
        loop.wait_idle()
        made = loop.supply.better()
        number = loop.register(made)
        end = time.monotonic() + _ENDS_SECONDS
        while not MOMENTS[moment](loop, number, made.digest):
            if time.monotonic() > end:
                raise NotRecovered(f"version {number} never came to be seen {moment}")
            time.sleep(_SOON)
        kill(loop.processes("controller"))
        loop.wait_live(made.digest)
        return f"version {number} is live all the same"

    return inject


def two_controllers(loop: Loop, load: Load) -> str:
    """A second controller runs beside the first while versions come."""
    loop.put_live(loop.supply.worst())
    second = loop.begin("watch")
    try:
        for _ in range(3):
            made = loop.supply.better()
            loop.register(made)
            loop.wait_live(made.digest)
    finally:
        processes.stop(second.pid)
        second.wait()
    return "three versions delivered beside a second controller"


def swaps(count: int) -> Inject:
    """So many changes of what serves, one after the other, each seen through."""

    def inject(loop: Loop, load: Load) -> str:
        target, verdict = Local(loop.home), Verdict("", None, 0.0, (GateResult("quality", True, "", "", "a drill"),))
        pair = [loop.put_live(made).versions[0] for made in (loop.supply.worst(), loop.supply.better())]
        began = time.monotonic()
        for number in range(count):
            target.deploy(pair[number % 2], "a swap", verdict)
        seconds = time.monotonic() - began
        return f"{count} swaps, {1000 * seconds / count:.0f} ms each"

    return inject


def _stored(loop: Loop, store: str, digest: str) -> Path:
    """Where BentoML keeps a bundle, or its Bento."""
    return bentos.folder(loop.home) / store / bentos.tag(digest).replace(":", "/")


def _deployed(loop: Loop, number: int) -> bool:
    live = rollout.read(loop.home, "local").live
    return live is not None and live.version == number
