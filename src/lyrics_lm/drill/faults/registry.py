"""Versions that come all at once, and an MLflow that is slow, refuses, or talks nonsense."""

import os
import random
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lyrics_lm.drill.load import Load
from lyrics_lm.drill.loop import Loop, NotRecovered, kill
from lyrics_lm.registry import versions

_FIFTY = 50
_AT_ONCE = 8
_SECONDS = 6.0


def twice(loop: Loop, load: Load) -> str:
    """Two processes register the same bundle at the same moment."""
    loop.put_live(loop.supply.worst())
    made = loop.supply.better()
    both = [loop.begin("register", str(made.path)) for _ in range(2)]
    failed = [process for process in both if process.wait(timeout=60)]
    loop.wait_live(made.digest)
    found = [version.version for version in versions.every(loop.uri) if version.digest == made.digest]
    if failed or len(found) != 1:
        raise NotRecovered(f"{len(failed)} registrations failed, and the bundle is versions {found}")
    return f"one version, {found[0]}"


def fifty(loop: Loop, load: Load) -> str:
    """Fifty versions are registered at once, in any order; the best serves in the end."""
    loop.put_live(loop.supply.worst())
    loop.wait_idle()
    made = loop.supply.several(_FIFTY)
    shuffled = random.Random(1).sample(made, len(made))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        numbers = list(pool.map(loop.register, shuffled))
    loop.wait("fifty verdicts", lambda: _judged(loop, numbers), 600, every=1)
    loop.wait_live(made[-1].digest)
    delivered = [one for one in versions.every(loop.uri) if one.version in set(numbers) and one.delivered]
    return f"the best of fifty is live; {len(delivered)} were delivered on the way"


def slow(loop: Loop, load: Load) -> str:
    """MLflow stands still for some seconds while a version waits."""
    made = _waiting(loop)
    frozen = loop.processes("mlflow")
    for process in frozen:
        process.suspend()
    time.sleep(_SECONDS)
    for process in frozen:
        process.resume()
    loop.wait_live(made)
    return f"it stood still for {_SECONDS:.0f} s"


def refusing(loop: Loop, load: Load) -> str:
    """MLflow is killed again and again while a version waits."""
    made = _waiting(loop)
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        kill(loop.processes("mlflow"))
        time.sleep(0.1)
    loop.wait_live(made)
    return f"no connection for {_SECONDS:.0f} s"


def garbage(loop: Loop, load: Load) -> str:
    """Something else answers at MLflow's address: well-formed nonsense first, then bytes that are no HTTP."""
    made = _waiting(loop)
    port = int(loop.uri.rpartition(":")[2])
    _answer_instead(loop, port, _Nonsense)
    _answer_instead(loop, port, _Noise)
    loop.wait_live(made)
    return f"nonsense for {_SECONDS:.0f} s"


class _Nonsense(BaseHTTPRequestHandler):
    """A page, whatever was asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        return


class _Noise(socketserver.BaseRequestHandler):
    """Random bytes."""

    def handle(self) -> None:
        self.request.sendall(os.urandom(512))


def _answer_instead(loop: Loop, port: int, kind: type[socketserver.BaseRequestHandler]) -> None:
    kill(loop.processes("mlflow"))
    server = loop.wait("the port to be free", lambda: _server(port, kind), 20, every=0.01)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        time.sleep(_SECONDS / 2)
        server.shutdown()


def _server(port: int, kind: type[socketserver.BaseRequestHandler]) -> socketserver.TCPServer | None:
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), kind)
    except OSError:
        return None


def _waiting(loop: Loop) -> str:
    """A better version that waits; its digest."""
    loop.put_live(loop.supply.worst())
    loop.wait_idle()
    made = loop.supply.better()
    loop.register(made)
    return made.digest


def _judged(loop: Loop, numbers: list[int]) -> bool:
    waiting = {version.version for version in versions.pending(loop.uri)}
    return not waiting & set(numbers)
