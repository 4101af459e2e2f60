"""One thread writes for everyone: requests wait in a bounded queue, their streams join the running batch at any
step, and news is handed over a few hundred times a second. Knows no HTTP."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lyrics_lm.errors import BusyError
from lyrics_lm.inference.batch import Batch
from lyrics_lm.inference.stream import Stream

LANES = 128  # streams in the batch at once: beyond, a wider batch writes no more tokens a second
QUEUE = 1024  # streams that may wait for a lane
_IDLE_SECONDS = 1.0  # the thread ends after so long without work, and with it what a replaced version holds
_HAND_OVER_SECONDS = 0.004  # a stream's first token and its end are handed over at once


@dataclass(frozen=True)
class Load:
    """What a scheduler has to do, and the tokens that it wrote since it last said so."""

    running: int
    waiting: int
    tokens: int


class Waker:
    """Tells a coroutine that some of its streams have news."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    async def wait(self) -> None:
        await self.event.wait()
        self.event.clear()


class Scheduler:
    """Owns the batch of one bundle. Its thread runs while there is something to write."""

    def __init__(self, batch: Callable[[], Batch], observe: Callable[[Load], None] = lambda _: None) -> None:
        self._new_batch = batch
        self._batch = batch()
        self._observe = observe
        self._requests: deque[deque[Stream]] = deque()
        self._waiting = 0
        self._wakers: dict[Stream, Waker] = {}
        self._news: dict[Stream, None] = {}
        self._handed_over = 0.0
        self._tokens = 0
        self._work = threading.Condition()
        self._asleep = True

    def submit(self, streams: Sequence[Stream], waker: Waker) -> None:
        """Have all streams of one request written. Raises `BusyError` when they find no room in the queue."""
        with self._work:
            if self._waiting + len(streams) > QUEUE:
                raise BusyError(f"{self._waiting} texts are waiting already; ask again in a few seconds")
            self._waiting += len(streams)
            self._requests.append(deque(streams))
            self._wakers.update(dict.fromkeys(streams, waker))
            if self._asleep:
                self._asleep = False
                threading.Thread(target=self._run, name="scheduler", daemon=True).start()
            self._work.notify()

    def _run(self) -> None:
        while self._admit():
            before = self._batch.written
            try:
                touched = self._batch.turn()
            except Exception as error:  # carried over to the requests that wait for it
                touched, self._batch = self._batch.abandon(error), self._new_batch()
            else:
                self._tokens += self._batch.written - before
            self._hand_over(touched)

    def _admit(self) -> bool:
        """Fill free lanes, one stream of each request in turn, so that none keeps the others out. False when
        everything is written, and nothing came for a while."""
        with self._work:
            if not self._requests and not len(self._batch):
                self._observe(Load(0, 0, self._taken()))
                self._asleep = not self._work.wait_for(lambda: self._requests, _IDLE_SECONDS)
                if self._asleep:
                    return False
            while self._requests and len(self._batch) < LANES:
                request = self._requests.popleft()
                stream = request.popleft()
                self._waiting -= 1
                if request:
                    self._requests.append(request)
                if stream.cancelled:
                    self._wakers.pop(stream)
                else:
                    self._batch.add(stream)
        return True

    def _hand_over(self, touched: Iterable[Stream]) -> None:
        """Wake those whose streams have news: at once for first tokens and ends, else every few milliseconds."""
        now = time.monotonic()
        urgent = [stream for stream in touched if stream.is_new or stream.ended]
        self._news.update(dict.fromkeys(touched))
        if now - self._handed_over >= _HAND_OVER_SECONDS:
            self._handed_over, urgent = now, list(self._news)
            self._observe(Load(len(self._batch), self._waiting, self._taken()))
        events: dict[asyncio.AbstractEventLoop, set[asyncio.Event]] = {}
        for stream in urgent:
            self._news.pop(stream, None)
            stream.is_new = False
            gone = stream.ended or stream.cancelled
            waker = self._wakers.pop(stream) if gone else self._wakers[stream]
            events.setdefault(waker.loop, set()).add(waker.event)
        for loop, some in events.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set, some)

    def _taken(self) -> int:
        tokens, self._tokens = self._tokens, 0
        return tokens


def _set(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()
