"""Claim: over HTTP the engine stays the bottleneck, and 64 readers at once are served as a few are.

Our service runs as `lyrics-lm up` runs it, in a process of its own; the clients share another. Baselines,
measured in the same run on the same machine:

- 500 characters for one client: the lecture's torch model (see `generation.py`) in a plain BentoML service.
- Requests of one cost, 32 clients: a plain async BentoML endpoint that returns a small JSON object, against
  eight tokens of our bigram.
- 64 streaming clients: the time to the first token of one client alone.
- Process start to first answer: none; the figure stands by itself.

Then 64 clients stream for `--load` seconds, leaving at random: every text must be the one that its seed gives
alone, no request may fail, and the memory of the service is shown before and after.

    python benchmarks/serving.py [--load 20]      needs wrk, of the distribution's packages
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).parent))

from generation import counted, transformer

from lyrics_lm import processes, rollout
from lyrics_lm.bundle import Bundle
from lyrics_lm.packaging import bentos
from lyrics_lm.records import LiveVersion, Verdict
from lyrics_lm.serving import HOME, TARGET

PLAIN = """
import sys; sys.path[:0] = [{benchmarks!r}, {root!r}]
import bentoml, torch
from generation import CHARACTERS, Lecture
torch.set_num_threads(1)

@bentoml.service
class Plain:
    def __init__(self) -> None:
        self.model = Lecture().eval()

    @bentoml.api
    async def constant(self, prompt: str) -> dict:
        return {{"text": prompt}}

    @bentoml.api
    def generate(self, count: int) -> str:
        tokens = torch.zeros(1, 1, dtype=torch.int64)
        with torch.no_grad():
            for _ in range(count):
                chances = self.model(tokens[:, -32:])[:, -1].softmax(dim=-1)
                tokens = torch.cat([tokens, torch.multinomial(chances, 1)], dim=1)
        return "".join(CHARACTERS[token - 1] for token in tokens[0, 1:])
"""


@contextlib.contextmanager
def served(service: str, home: Path, **asked: str) -> Iterator[tuple[str, psutil.Process, float]]:
    """A BentoML service on a port of its own: address, process, and seconds until it was ready."""
    port = processes.free_port()
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **bentos.serving_environment(home), **asked}
    with open(home / "served.log", "ab") as log:
        began = time.perf_counter()
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        asyncio.run(until_ready(url))
        yield url, psutil.Process(server.pid), time.perf_counter() - began
    finally:
        processes.stop(server.pid)
        server.wait()


async def until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/readyz") as answer:
                    if answer.ok:
                        return
            await asyncio.sleep(0.01)


def deploy(home: Path, made: Bundle) -> None:
    """Have a bundle served by the service that follows this home."""
    version = LiveVersion(1, made.digest, "lyrics-lm", made.manifest.architecture, 0, "", str(made.path))
    rollout.deploy(home, "local", version, "benchmark", Verdict(made.digest, None, 0, ()))


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


async def answer_times(
    clients: int, seconds: float, ask: Callable[[aiohttp.ClientSession], Awaitable[None]]
) -> list[float]:
    """Seconds of each request that so many clients make, one after the other."""
    times: list[float] = []
    give_up = time.perf_counter() + seconds

    async def one(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < give_up:
            began = time.perf_counter()
            await ask(session)
            times.append(time.perf_counter() - began)

    async with client() as session:
        await asyncio.gather(*(one(session) for _ in range(clients)))
    return times


def posting(url: str, body: dict[str, object]) -> Callable[[aiohttp.ClientSession], Awaitable[None]]:
    async def ask(session: aiohttp.ClientSession) -> None:
        async with session.post(url, json=body) as answer:
            answer.raise_for_status()
            await answer.read()

    return ask


async def first_token(port: int, seed: int) -> float:
    """Seconds to the first frame of a stream, which is then read to its end; by hand, to cost little."""
    body = json.dumps({"prompt": "love is", "max_tokens": 200, "stream": True, "seed": seed}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(head.encode() + body)
    await reader.readuntil(b"data: {")
    first = time.perf_counter() - began
    rest = await reader.read(-1)
    writer.close()
    if b"[DONE]" not in rest:
        raise AssertionError("a stream ended early")
    return first


async def first_tokens(url: str, clients: int, seconds: float) -> list[float]:
    times: list[float] = []
    port = int(url.rpartition(":")[2])
    give_up = time.perf_counter() + seconds

    async def one(number: int) -> None:
        while time.perf_counter() < give_up:
            times.append(await first_token(port, number))
            await asyncio.sleep(random.uniform(0, 0.02))

    await asyncio.gather(*(one(number) for number in range(clients)))
    return sorted(times)


async def load(url: str, seconds: float) -> tuple[int, int]:
    """Texts read to their end and texts left, by 64 clients; a wrong text or a failure raises."""
    whole: dict[int, str] = {}
    counts = [0, 0]
    give_up = time.perf_counter() + seconds

    def body(seed: int, *, stream: bool) -> dict[str, object]:
        return {"prompt": "love is" * (1 + seed % 9), "max_tokens": 50 + 5 * seed, "seed": seed, "stream": stream}

    async def one(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < give_up:
            seed = random.randrange(len(whole))
            leaves = random.random() < 0.3
            text = ""
            async with session.post(f"{url}/v1/completions", json=body(seed, stream=True)) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    if line.startswith(b"data: {"):
                        text += msgspec.json.decode(line[6:])["choices"][0]["text"]
                        if leaves and random.random() < 0.1:
                            counts[1] += 1
                            break
                else:
                    counts[0] += 1
                    if text != whole[seed]:
                        raise AssertionError(f"seed {seed} gave another text under load")

    async with client() as session:
        for seed in range(40):
            async with session.post(f"{url}/v1/completions", json=body(seed, stream=False)) as answer:
                whole[seed] = (await answer.json())["choices"][0]["text"]
        await asyncio.gather(*(one(session) for _ in range(64)))
    return counts[0], counts[1]


def memory(server: psutil.Process) -> float:
    """Megabytes of a process and its children."""
    return sum(each.memory_info().rss for each in [server, *server.children(recursive=True)]) / 1e6


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] * 1000


def told(times: list[float]) -> str:
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def compare_requests(url: str, plain: str) -> None:
    ours = wrk(f"{url}/v1/completions", {"prompt": "love is", "max_tokens": 8})
    theirs = wrk(f"{plain}/constant", {"prompt": "love is"})
    print(f"32 clients: ours {ours[0]:,.0f}/s, p99 {ours[1]:.0f} ms; plain {theirs[0]:,.0f}/s, p99 {theirs[1]:.0f} ms:")
    print(
        f"    {ours[0] / theirs[0]:.1f}x the requests (target 2.5x), {ours[1] / theirs[1]:.2f}x the p99 (target 0.5x)"
    )


def wrk(url: str, body: dict[str, object]) -> tuple[float, float]:
    """Requests a second and p99 in milliseconds of 32 clients, by wrk, which takes little of the machine itself."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"wrk.method, wrk.body = 'POST', [[{json.dumps(body)}]]\n"
            "wrk.headers['content-type'] = 'application/json'\n"
            "done = function(s, latency) io.write(string.format('RESULT %f %f %d\\n', "
            "s.requests / s.duration * 1e6, latency:percentile(99) / 1e3, s.errors.status + s.errors.timeout)) end\n"
        )
        script.flush()
        command = ["wrk", "-t1", "-c32", "-d5s", "-s", script.name, url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate, p99, errors = next(line for line in said.splitlines() if line.startswith("RESULT")).split()[1:]
    if int(errors):
        raise AssertionError(f"{errors} requests to {url} failed")
    return float(rate), float(p99)


def compare_texts(url: str, plain: str) -> None:
    body = {"prompt": "l", "max_tokens": 500}
    ours = asyncio.run(answer_times(1, 3, posting(f"{url}/v1/completions", body)))
    theirs = asyncio.run(answer_times(1, 5, posting(f"{plain}/generate", {"count": 500})))
    print(f"500 characters: ours {told(ours)}; the lecture's model in plain BentoML {told(theirs)}:")
    print(f"    {statistics.median(theirs) / statistics.median(ours):.1f}x as fast (target 20x)")


def compare_first_tokens(url: str) -> None:
    alone, many = (asyncio.run(first_tokens(url, clients, 5)) for clients in (1, 64))
    p50, p99 = (percentile(many, share) / percentile(alone, share) for share in (0.5, 0.99))
    print(f"first token: one client {told(alone)}; 64 clients {told(many)}:")
    print(f"    p50 {p50:.1f}x (target 3x), p99 {p99:.1f}x (target 10x)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=float, default=20, help="seconds of load with clients that leave")
    seconds = parser.parse_args().load
    if shutil.which("wrk") is None:
        print("not measured; install wrk, which makes the requests")
        return
    with tempfile.TemporaryDirectory() as name:
        places = {kind: Path(name) / kind for kind in ("large", "small", "plain", "home")}
        for place in places.values():
            place.mkdir()
        home = places["home"]
        file = places["plain"] / "plain_service.py"
        file.write_text(PLAIN.format(benchmarks=str(Path(__file__).parent), root=str(Path(__file__).parents[1])))
        large, small = transformer(places["large"]), counted(places["small"])
        asked = {HOME: str(home), TARGET: "local"}
        with served("plain_service:Plain", places["plain"]) as (plain, _, _):
            deploy(home, small)
            with served(bentos.SERVICE, home, **asked) as (url, _, _):
                compare_requests(url, plain)
            deploy(home, large)
            with served(bentos.SERVICE, home, **asked) as (url, _, _):
                compare_texts(url, plain)
        with served(bentos.SERVICE, home, **asked) as (url, server, ready):
            print(f"process start to ready: {ready:.2f} s (target 2.5 s)")
            compare_first_tokens(url)
            asyncio.run(load(url, 2))
            before = memory(server)
            ended, left = asyncio.run(load(url, seconds))
            print(
                f"load: 64 clients for {seconds:g} s, {ended} texts all as alone, {left} left, 0 failed; "
                f"memory {before:.0f} MB before, {memory(server):.0f} MB after"
            )


if __name__ == "__main__":
    main()
