"""The BentoML service: binds the API to what is live here, a rollout that it follows or its own Bento's bundle."""

import asyncio
import contextlib
import functools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import bentoml
from starlette.applications import Starlette

from lyrics_lm import bundle
from lyrics_lm.corpus import verbatim
from lyrics_lm.records import Deployment, LiveVersion, from_json
from lyrics_lm.serving import COPYING, COUNTERS, HOME, KEEPING, KEYS, TARGET, TRUST, WORKERS, doors
from lyrics_lm.serving.api import Api, Headers
from lyrics_lm.serving.guard import Guard
from lyrics_lm.serving.lines import KnownLines
from lyrics_lm.serving.live import LiveModel, follow, load, mind
from lyrics_lm.serving.metrics import count_in, meter
from lyrics_lm.signing import Trust
from lyrics_lm.traffic import Keeping, TrafficLog

if counters := os.environ.get(COUNTERS):
    count_in(Path(counters))
_live = LiveModel()
_home = os.environ.get(HOME)
_keeping = from_json(os.environ.get(KEEPING, "{}"), Keeping)
_trust = from_json(os.environ[TRUST], Trust) if os.environ.get(TRUST) else None
_log = TrafficLog(Path(_home) / "traffic", _keeping) if _home else None


@contextlib.asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    logging.getLogger("lyrics_lm").setLevel(logging.INFO)
    checked_load = functools.partial(load, observe=meter().observe, trust=_trust)
    tasks = [asyncio.create_task(mind(_live, lambda: os._exit(os.EX_SOFTWARE)))]
    if _home is None:
        _live.swap(checked_load(*_own_bundle()))
    else:
        tasks.append(asyncio.create_task(follow(_live, Path(_home), os.environ[TARGET], checked_load)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if _log:
            _log.close()


def _own_bundle() -> tuple[LiveVersion, Deployment]:
    """The one bundle that this Bento was built with."""
    bento = service.bento
    if bento is None:
        raise RuntimeError(f"neither {HOME} is set nor is this a Bento; start it with: lyrics-lm up")
    path = Path(bentoml.models.get(bento.info.all_models[0].tag).path) / "bundle"
    read = bundle.read(path)
    labels = bento.info.labels
    version = LiveVersion(
        version=int(labels.get("version", 0)),
        digest=read.digest,
        name=read.manifest.name,
        architecture=read.manifest.architecture,
        bits_per_char=read.manifest.metrics.bits_per_char,
        bento=str(bento.tag),
        path=str(path),
        interval=read.manifest.metrics.interval,
    )
    reason = f"the bundle of Bento {bento.tag}"
    return version, Deployment(bento.tag.version or "", "bento", time.time(), "deploy", (version,), reason)


def _told(name: str) -> bytes | None:
    """What the controller last wrote under that name, for the page."""
    if _home is None:
        return None
    try:
        return (Path(_home) / name).read_bytes()
    except FileNotFoundError:
        return None


def _keys() -> Callable[[], Sequence[str] | None]:
    """The keys that open this service: those the environment names, else those of the home."""
    given = os.environ.get(KEYS)
    return doors.Known(Path(_home)) if _home and given is None else doors.told(given or "")


_known_lines = KnownLines(Path(_home) / verbatim.FOLDER if _home else None)
_api = Api(
    _live,
    _log.append if _log else lambda record: None,
    lambda: _told("progress.json"),
    meter(),
    _known_lines,
    lambda: _told("drift/line.json"),
    lambda: _told("trials/line.json"),
    Guard(_known_lines.index, int(os.environ.get(COPYING, "0"))),
)


# The timeout bounds the wait for an answer's first byte; BentoML keeps each request that long.
@bentoml.service(
    name="lyrics-lm",
    workers=int(os.environ.get(WORKERS, "1")),
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": True},
    tracing={"excluded_urls": ".*"},  # nobody collects the spans, and each would cost as much as ten tokens
)
@bentoml.asgi_app(_api.app(_lifespan), path="/", name="api")
class LyricsService:
    """Lyrics from the version that is live."""

    async def __is_ready__(self) -> bool:
        return _live.current is not None


service: Any = LyricsService  # what the decorator makes of the class, untyped
service.add_asgi_middleware(Headers, live=_live)  # outermost: a refusal has its request id too
service.add_asgi_middleware(doors.Doors, known=_keys())
