"""Which version serves in this process: follows a rollout file and swaps without a dropped answer."""

import asyncio
import contextlib
import logging
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lyrics_lm import bundle, rollout, signing
from lyrics_lm.errors import ConformanceError, DeliveryError, LyricsError, MachineError
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.scheduler import Load, Scheduler
from lyrics_lm.records import Deployment, KnownAnswer, LiveVersion, Observed
from lyrics_lm.signing import Trust

logger = logging.getLogger("lyrics_lm.serving")

_POLL_SECONDS = 0.05
_TOLERANCE = 1e-4
_STALLED_SECONDS = 60.0  # of one turn; a call of the graph is broken off before, if it can be


@dataclass(frozen=True)
class Serving:
    """A loaded version and the deployment that put it here. Streams keep the one they began with."""

    generator: Generator
    scheduler: Scheduler
    version: LiveVersion
    since: float
    reason: str


class LiveModel:
    """The versions that new requests go to: `current`, and a challenger where one is tried. Each is replaced
    whole, never changed."""

    def __init__(self) -> None:
        self.current: Serving | None = None
        self.challenger: Serving | None = None
        self._changed = asyncio.Event()

    def pick(self, client: str) -> Serving | None:
        """Who answers that client: always the same version while the shares stay, and, as a challenger's
        share grows, never the champion again."""
        challenger = self.challenger
        if challenger and zlib.crc32(client.encode(errors="replace")) % 100 < challenger.version.share:
            return challenger
        return self.current

    def loaded(self, digest: str) -> Serving | None:
        """The version of that digest, where it serves already."""
        serving = (one for one in (self.current, self.challenger) if one and one.version.digest == digest)
        return next(serving, None)

    def swap(self, serving: Serving, challenger: Serving | None = None) -> None:
        """Send new requests to these; a version that is neither is let go with its last stream."""
        self.current, self.challenger = serving, challenger
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, within: float) -> bool:
        """Wait for the next swap; False when none came within that many seconds."""
        waiting = self._changed
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiting.wait(), within)
        return waiting.is_set()


def load(
    version: LiveVersion,
    deployment: Deployment,
    observe: Callable[[str, Load], None] = lambda *_: None,
    trust: Trust | None = None,
) -> Serving:
    """Load, warm and check one version; raises `LyricsError` when it must not serve.

    `observe` is told, by digest, what the version has to do; where there is a `trust`, its signature is verified.
    """
    read = bundle.read(Path(version.path))
    if read.digest != version.digest:
        raise ConformanceError(f"{version.path} holds bundle {read.digest[:12]}, not {version.digest[:12]}")
    if trust:
        signing.verify(read, trust)
    generator = Generator(read)
    check_known_answer(generator, read.manifest.known_answer)
    scheduler = Scheduler(generator.batch, lambda load: observe(version.digest, load))
    return Serving(generator, scheduler, version, deployment.time, deployment.reason)


def check_known_answer(generator: Generator, known: KnownAnswer) -> None:
    """Run the contract's known answer, which also warms the engine up."""
    if not known.tokens:
        raise ConformanceError("the known answer has no tokens")
    tokens = np.array(known.tokens, dtype=np.int64)
    rows, _ = generator.engine.advance_all([tokens], generator.engine.start())
    actual, expected = rows[0][-1], np.array(known.last, dtype=np.float32)
    if actual.shape != expected.shape:
        raise ConformanceError(f"the known answer has {expected.size} logits, the model gives {actual.size}")
    difference = float(np.abs(actual - expected).max())
    if not difference <= _TOLERANCE:
        raise ConformanceError(f"the known answer differs by {difference:.2g}, more than {_TOLERANCE}")


async def follow(live: LiveModel, home: Path, target: str, load: Callable[..., Serving] = load) -> None:
    """Keep `live` at what the rollout of `target` asks for, until cancelled.

    A version that cannot be loaded, or a damaged rollout, leaves the old one serving; what became of
    a deployment is written beside the rollout, for whoever waits for the change.
    """
    taken: str | None = None
    stamp: tuple[int, int] | None = None
    unwritten = _report(home, target, _observed(None, None))
    while True:
        latest = _stamp(rollout.path(home, target))
        if latest is not None and latest != stamp:
            stamp = latest
            deployment = _desired(home, target)
            if deployment and deployment.id != taken:
                taken = deployment.id
                unwritten = _observed(deployment, await _take(live, deployment, load))
        unwritten = _report(home, target, unwritten)
        await asyncio.sleep(_POLL_SECONDS)


async def mind(live: LiveModel, give_up: Callable[[], None]) -> None:
    """Watch the engines of what serves, until cancelled: one that does not come back from a turn would hold
    everyone up for ever, so the process is given up, and started anew by whoever minds it."""
    while True:
        for serving in filter(None, (live.current, live.challenger)):
            if serving.scheduler.stalled > _STALLED_SECONDS:
                logger.critical("version %s hangs; this process ends", serving.version.version)
                give_up()
        await asyncio.sleep(1)


def _desired(home: Path, target: str) -> Deployment | None:
    """The deployment in force; None, and a line in the log, where the rollout cannot be read."""
    try:
        return rollout.read(home, target).current
    except DeliveryError as error:
        logger.error("what serves stays as it is: %s", error)
        return None


async def _take(live: LiveModel, deployment: Deployment, load: Callable[..., Serving]) -> str | None:
    taken = []
    for version in deployment.versions:
        try:
            taken.append(await _ready(live, version, deployment, load))
        except LyricsError as error:
            logger.error("version %s stays out: %s", version.version, error)
            return str(error)
    live.swap(*taken)
    for version in deployment.versions:
        logger.info("version %s (%s) serves %d%%", version.version, version.digest[:12], version.share)
    return None


async def _ready(
    live: LiveModel, version: LiveVersion, deployment: Deployment, load: Callable[..., Serving]
) -> Serving:
    """A version ready to serve: loaded anew, unless only its share changes."""
    known = live.loaded(version.digest)
    if known is None:
        return await asyncio.to_thread(load, version, deployment)
    return replace(known, version=version, since=deployment.time, reason=deployment.reason)


def _observed(deployment: Deployment | None, error: str | None) -> Observed:
    return Observed(deployment.id if deployment else None, os.getpid(), time.time(), error)


def _report(home: Path, target: str, seen: Observed | None) -> Observed | None:
    """Write what was observed; gives it back, to be written later, where the disk is full."""
    if seen is None:
        return None
    try:
        rollout.observe(home, target, seen)
    except MachineError:
        return seen
    return None


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when the file is replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
