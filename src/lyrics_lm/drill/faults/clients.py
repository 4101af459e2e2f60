"""Clients that are slow, vanish, idle by the thousand, or send what no one should."""

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator

import httpx

from lyrics_lm.drill.load import Load
from lyrics_lm.drill.loop import Loop, NotRecovered

_SLOW, _SLOW_SECONDS = 100, 10
_VANISHING = 300
_IDLE, _IDLE_SECONDS = 10_000, 10
_SPARE_FILES = 300
_REPEATS = 40
_PATH = "/v1/completions"
_NESTED = b'{"prompt":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
_POISON: tuple[bytes, ...] = (
    b"",
    b"{",
    b"\xff\xfe",
    b"null",
    b"[]",
    _NESTED,
    b'{"prompt": "' + b"a" * 3_000_000 + b'"}',
    b'{"prompt": "a", "max_tokens": 1e99}',
    b'{"prompt": "a", "max_tokens": -1}',
    b'{"prompt": "a", "n": 1000000}',
    b'{"prompt": "a", "temperature": NaN}',
    b'{"prompt": "\\ud800", "max_tokens": 3}',
    b'{"prompt": "\\u0000\\u0000", "max_tokens": 3}',
    b'{"prompt": [99999999], "max_tokens": 3}',
    b'{"prompt": [-1], "max_tokens": 3}',
    '{"prompt": "☃\u202e💀", "max_tokens": 3}'.encode(),
    b'{"prompt": "a", "stop": ["", "", "", ""]}',
    b'{"prompt": "a", "seed": 99999999999999999999999999}',
    b'{"prompt": "a", "logprobs": 1000}',
)


def slow(loop: Loop, load: Load) -> str:
    """Half send their question letter by letter, half read nothing of a long answer."""
    asyncio.run(_slow_ones(loop.port))
    return f"{_SLOW} of them for {_SLOW_SECONDS} s"


def vanishing(loop: Loop, load: Load) -> str:
    """They leave as soon as the answer begins."""
    asyncio.run(_vanishing_ones(loop.port))
    return f"{_VANISHING} left in the middle of a stream"


def idle(loop: Loop, load: Load) -> str:
    """They connect, and say nothing."""
    wanted = min(_IDLE, _file_limit() - _SPARE_FILES)
    held = asyncio.run(_idle_ones(loop.port, wanted))
    if held < wanted:
        raise NotRecovered(f"only {held} of {wanted} idle connections were taken")
    return f"{held:,} connections for {_IDLE_SECONDS} s"


def poison(loop: Loop, load: Load) -> str:
    """What breaks parsers, tokenizers and models, again and again: refused or answered, never a fault of ours."""
    faults, asked = set(), 0
    with httpx.Client(base_url=loop.url, timeout=20) as client:
        for _ in range(_REPEATS):
            for body in _POISON:
                answer = client.post(_PATH, content=body, headers={"content-type": "application/json"})
                asked += 1
                if answer.status_code >= 500:
                    faults.add(f"{answer.status_code} for {body[:60]!r}")
    if faults:
        raise NotRecovered(f"faults of ours: {sorted(faults)}")
    return f"{asked} requests of {len(_POISON)} kinds"


async def _slow_ones(port: int) -> None:
    long = json.dumps({"prompt": "love", "max_tokens": 4000, "stream": True}).encode()

    async def letter_by_letter() -> None:
        async with _connection(port) as (_, writer):
            for letter in _request(long)[: _SLOW_SECONDS * 5]:
                writer.write(bytes([letter]))
                await writer.drain()
                await asyncio.sleep(0.2)

    async def never_reads() -> None:
        async with _connection(port) as (_, writer):
            writer.write(_request(long))
            await writer.drain()
            await asyncio.sleep(_SLOW_SECONDS)

    kinds = (letter_by_letter, never_reads)
    await asyncio.gather(*(kinds[number % 2]() for number in range(_SLOW)), return_exceptions=True)


async def _vanishing_ones(port: int) -> None:
    body = json.dumps({"prompt": "love", "max_tokens": 500, "stream": True}).encode()

    async def one() -> None:
        async with _connection(port) as (reader, writer):
            writer.write(_request(body))
            await writer.drain()
            await reader.read(400)

    for _ in range(_VANISHING // 30):
        await asyncio.gather(*(one() for _ in range(30)), return_exceptions=True)


async def _idle_ones(port: int, wanted: int) -> int:
    """How many connections still stand after the time."""
    async with contextlib.AsyncExitStack() as stack:
        held = []
        for start in range(0, wanted, 500):
            batch = (stack.enter_async_context(_connection(port)) for _ in range(min(500, wanted - start)))
            held += [one for one in await asyncio.gather(*batch, return_exceptions=True) if isinstance(one, tuple)]
        await asyncio.sleep(_IDLE_SECONDS)
        return len(held)


@contextlib.asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _request(body: bytes) -> bytes:
    head = f"POST {_PATH} HTTP/1.1\r\nhost: drill\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _file_limit() -> int:
    """So many files may this process open, its limit raised as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
