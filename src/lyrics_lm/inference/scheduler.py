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
# News of a stream is handed over after so long for each stream there is, and within these bounds: a frame costs
# as much as some tokens, and no reader sees that it is late. A text's beginning and its end go at once.
_HAND_OVER_SECONDS = 0.001
_SOONEST, _LATEST = 0.004, 0.1


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
        self._handed_over = 0.0
        self._told = 0
        self._work = threading.Condition()
        self._asleep = True
        self._turn_began: float | None = None

    def submit(self, streams: Sequence[Stream], waker: Waker) -> None:
        """Have all streams of one request written; `waker` learns of their news.

        Raises `BusyError` when they find no room in the queue.
        """
        for stream in streams:
            stream.waker = waker
        with self._work:
            if self._waiting + len(streams) > QUEUE:
                raise BusyError(f"{self._waiting} texts are waiting already; ask again in a few seconds")
            self._waiting += len(streams)
            self._requests.append(deque(streams))
            if self._asleep:
                self._asleep = False
                threading.Thread(target=self._run, name="scheduler", daemon=True).start()
            self._work.notify()

    def _run(self) -> None:
        while self._admit():
            self._turn_began = time.monotonic()
            try:
                urgent = self._batch.turn()
            except Exception as error:  # carried over to the requests that wait for it
                urgent, self._batch, self._told = self._batch.abandon(error), self._new_batch(), 0
            self._turn_began = None
            self._hand_over(urgent)

    @property
    def stalled(self) -> float:
        """Seconds for which the engine has not come back from one turn of the batch; 0 between turns."""
        began = self._turn_began
        return 0.0 if began is None else time.monotonic() - began

    def _admit(self) -> bool:
        """Fill free lanes, one stream of each request in turn, so that none keeps the others out. False when
        everything is written, and nothing came for a while."""
        with self._work:
            if not self._requests and not len(self._batch):
                self._observe(self._load())
                self._asleep = not self._work.wait_for(lambda: self._requests, _IDLE_SECONDS)
                if self._asleep:
                    return False
            while self._requests and len(self._batch) < LANES:
                request = self._requests.popleft()
                stream = request.popleft()
                self._waiting -= 1
                if request:
                    self._requests.append(request)
                if not stream.cancelled:
                    self._batch.add(stream)
        return True

    def _hand_over(self, urgent: Sequence[Stream]) -> None:
        """Wake those who wait: at once where a text began or ended, else every few milliseconds."""
        now = time.monotonic()
        pause = min(max(_SOONEST, _HAND_OVER_SECONDS * len(self._batch)), _LATEST)
        if now - self._handed_over >= pause:
            self._handed_over, urgent = now, [*urgent, *self._batch.written_to]
            self._observe(self._load())
        events: dict[asyncio.AbstractEventLoop, set[asyncio.Event]] = {}
        for waker in [stream.waker for stream in urgent if stream.waker]:
            events.setdefault(waker.loop, set()).add(waker.event)
        for loop, some in events.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set, some)

    def _load(self) -> Load:
        written, self._told = self._batch.written - self._told, self._batch.written
        return Load(len(self._batch), self._waiting, written)


def _set(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()
