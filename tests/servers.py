"""The app behind a real server on a loopback port, over a bundle made by hand."""

import asyncio
import contextlib
import json
import threading
import time

import httpx
import uvicorn

from lyrics_lm.inference.scheduler import Scheduler
from lyrics_lm.records import LiveVersion
from lyrics_lm.serving.api import Api, Headers
from lyrics_lm.serving.lines import KnownLines
from lyrics_lm.serving.live import LiveModel, Serving
from lyrics_lm.serving.metrics import meter


def serving(generator, number=1):
    made = generator.bundle
    version = LiveVersion(number, made.digest, made.manifest.name, "by hand", 4.0, "bento:1", str(made.path))
    scheduler = Scheduler(generator.batch, lambda load: meter().observe(made.digest, load))
    return Serving(generator, scheduler, version, 1000.0 + number, f"version {number} was better")


class Server:
    """The app behind a real server on a loopback port, in a thread of its own."""

    def __init__(self, first):
        self.live, self.records, self.training, self.trial = LiveModel(), [], None, None
        self.known_lines = KnownLines(None)
        self._first = first
        api = Api(
            self.live,
            self.records.append,
            lambda: self.training,
            meter(),
            lambda text: self.known_lines(text),
            trial=lambda: self.trial,
        )
        app = api.app(self._lifespan)
        config = uvicorn.Config(Headers(app, self.live), port=0, log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _):
        self._loop = asyncio.get_running_loop()
        if self._first:
            self.live.swap(self._first)
        yield

    def __enter__(self):
        self._thread.start()
        wait_for(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=20)
        return self

    def __exit__(self, *_):
        self.client.close()
        self._server.should_exit = True
        self._thread.join(20)

    def swap(self, new):
        self._loop.call_soon_threadsafe(self.live.swap, new)
        wait_for(lambda: self.live.current is new)

    def post(self, **body):
        return self.client.post("/v1/completions", json=body)

    def ask(self, **body):
        answer = self.post(**body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, **body):
        """All `data:` frames of a streamed answer, the last of which must be [DONE]."""
        answer = self.post(stream=True, **body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = answer.text.split("\n\n")
        assert frames.pop() == ""
        assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
        assert frames.pop() == "data: [DONE]"
        return [json.loads(frame.removeprefix("data: ")) for frame in frames]

    def recorded(self, answer):
        """The traffic records of one answer, once all are there."""
        request = answer.headers["x-request-id"]
        wait_for(lambda: any(record.request == request for record in self.records))
        return [record for record in self.records if record.request == request]


def wait_for(condition, seconds=10):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.005)
