"""A small Lambda runtime API on this machine, and a function package run against it by a bare Python."""

import json
import queue
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Function:
    """A package, unpacked in an empty folder and run under awslambdaric with nothing else to import."""

    def __init__(self, package: Path, folder: Path, handler: str) -> None:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
        self._events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._api())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_VERSION": "7",
            "LAMBDA_TASK_ROOT": str(folder),
            "PATH": "/nowhere",
            "PYTHONDONTWRITEBYTECODE": "1",  # Lambda's folder is read-only too
        }
        # -S and -I: neither site-packages nor the folder this was started in.
        run = (
            f"import sys; sys.path.insert(0, {str(folder)!r}); "
            f"from awslambdaric.__main__ import main; main(['', {handler!r}])"
        )
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.base_prefix + "/bin/python3", "-I", "-S", "-c", run],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, event: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        """What the function answers to an event; fails with what it printed when it does not."""
        self._events.put((uuid.uuid4().hex, json.dumps(event).encode()))
        try:
            kind, answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            self._process.kill()
            raise AssertionError(f"no answer; it said: {self._process.stdout.read()}") from None
        assert kind == "response", answer
        return answer

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON of a POST as a function URL passes it on."""
        answer = self.ask(url_event("POST", path, body if isinstance(body, str) else json.dumps(body)))
        return answer["statusCode"], json.loads(answer["body"])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._server.shutdown()

    def _api(self) -> type[BaseHTTPRequestHandler]:
        events, answers = self._events, self._answers

        class Api(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # .../runtime/invocation/next
                request, body = events.get()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", request)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 30_000))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:1:function:f")
                self.send_header("Lambda-Runtime-Trace-Id", "Root=1-0-0;Parent=0;Sampled=0")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:  # .../invocation/ID/response, .../error, .../init/error
                body = b"".join(self._chunks())
                answers.put((self.path.rsplit("/", 1)[1], json.loads(body)))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _chunks(self) -> Iterator[bytes]:
                if "Content-Length" in self.headers:
                    yield self.rfile.read(int(self.headers["Content-Length"]))
                    return
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()

            def log_message(self, *args: Any) -> None:
                pass

        return Api


def url_event(method: str, path: str, body: str = "") -> dict[str, Any]:
    """What a function URL or an HTTP API sends (payload 2.0)."""
    about = {"http": {"method": method, "path": path}, "stage": "$default"}
    return {"version": "2.0", "rawPath": path, "requestContext": about, "body": body, "isBase64Encoded": False}


def rest_event(method: str, path: str, body: str = "") -> dict[str, Any]:
    """What a REST API sends (payload 1.0)."""
    return {"httpMethod": method, "path": path, "requestContext": {"stage": "prod"}, "body": body}
