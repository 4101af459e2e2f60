"""Claim: recording a request costs less than 2% of it.

A transformer is trained for some steps and asked, in process and without a socket, for 80 tokens, by 8 clients
at a time; blocks of requests are answered in turn with the traffic log and without (no record is made at all), and
processor time is counted, that of the log's own thread included. The `baseline` is the answer without a record.

    python benchmarks/traffic.py [--blocks 30]
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lyrics_lm import bundle
from lyrics_lm.bundle import Bundle
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.scheduler import Scheduler
from lyrics_lm.records import LiveVersion, TrafficRecord
from lyrics_lm.serving.api import Api, Headers
from lyrics_lm.serving.completions import Answer
from lyrics_lm.serving.live import LiveModel, Serving
from lyrics_lm.serving.metrics import meter
from lyrics_lm.traffic import TrafficLog
from workspaces import cli, make_workspace

REQUESTS, CLIENTS, TOKENS = 80, 8, 80


def trained(folder: Path) -> Bundle:
    workspace = make_workspace(folder / "mine", **{"model.width": 72, "model.layers": 3})
    cli(workspace, "train")
    return bundle.read(workspace / "build" / "bundle")


async def block(client: httpx.AsyncClient) -> None:
    async def one(number: int) -> None:
        for _ in range(REQUESTS // CLIENTS):
            body = {"prompt": f"love is all i know of number {number}", "max_tokens": TOKENS}
            (await client.post("/v1/completions", json=body)).raise_for_status()

    await asyncio.gather(*(one(number) for number in range(CLIENTS)))


async def measure(made: Bundle, folder: Path, blocks: int) -> None:
    generator = Generator(made)
    version = LiveVersion(1, made.digest, "", "", 0.0, "", "")
    live, log = LiveModel(), TrafficLog(folder / "traffic")
    live.swap(Serving(generator, Scheduler(generator.batch, lambda load: None), version, 0.0, ""))
    app = Api(live, log.append, lambda: None, meter(), lambda text: None).app(lambda _: contextlib.nullcontext())
    records = Answer.records
    times: dict[bool, list[float]] = {True: [], False: []}
    transport = httpx.ASGITransport(Headers(app, live))
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=60) as client:
        for number in range(2 * blocks + 2):
            recorded = number % 2 == 0
            Answer.records = records if recorded else lambda self: iter(())  # type: ignore[method-assign]
            began = time.process_time()
            await block(client)
            await asyncio.sleep(0.6)  # until the log has written
            if number >= 2:
                times[recorded].append((time.process_time() - began) / REQUESTS)
    log.close()
    pairs = [with_log / without - 1 for with_log, without in zip(times[True], times[False], strict=True)]
    base = statistics.median(times[False])
    extra = statistics.median(a - b for a, b in zip(times[True], times[False], strict=True))
    print(f"a request of {TOKENS} tokens: {base * 1e3:.2f} ms of processor time (baseline: no record)")
    print(f"with the log: {extra * 1e6:+.0f} microseconds, {statistics.median(pairs):+.2%} (claim: below 2%)")


def costs(folder: Path) -> None:
    """What making and writing one record costs by itself, at a rate that fills each batch."""
    log = TrafficLog(folder / "alone")
    record = TrafficRecord(
        0, "r" * 32, "d" * 64, "love is all i know", {"max_tokens": 80}, "x" * 80, 18, 80, 0.1, "length"
    )
    began = time.process_time()
    for _ in range(50_000):
        log.append(record)
    appended = time.process_time() - began
    log.close()
    whole = time.process_time() - began
    print(f"a record alone: {appended / 0.05:.1f} microseconds to append, {whole / 0.05:.1f} with its writing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=30)
    blocks = parser.parse_args().blocks
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(trained(Path(name)), Path(name), blocks))
        costs(Path(name))


if __name__ == "__main__":
    main()
