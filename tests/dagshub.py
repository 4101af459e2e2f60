"""A server of DagsHub's shape on loopback: a real MLflow and a DVC remote behind basic auth, per repository.

`/<owner>/<repo>.mlflow/...` goes on to MLflow, `/<owner>/<repo>.dvc/...` keeps files in a folder; the token
stands for user and password, and each has its rights: to write, to read, or none.
"""

import asyncio
import base64
import contextlib
import threading
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from lyrics_lm import params, processes
from lyrics_lm.registry import server
from workspaces import wait_for

REPO = "ann/songs"
WRITER, READER, STRANGER = "token-of-a-writer", "token-of-a-reader", "token-of-a-stranger"
_RIGHTS = {WRITER: "write", READER: "read", STRANGER: ""}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_READS = ("GET", "HEAD")
_HOP = {"host", "authorization", "connection", "content-length", "transfer-encoding", "content-encoding"}


class DagsHub:
    """`url` is the host; `wait` seconds pass before each answer, as over a real network."""

    def __init__(self, folder: Path, mlflow: str) -> None:
        self._folder, self._mlflow = folder, mlflow
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.asked: list[tuple[str, str]] = []
        self._client = httpx.AsyncClient(timeout=60)
        routes = [
            Route(f"/{REPO}.mlflow/{{path:path}}", self._to_mlflow, methods=_METHODS),
            Route(f"/{REPO}.dvc/{{path:path}}", self._to_files, methods=_METHODS),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=self.port, log_level="error", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "DagsHub":
        self._thread.start()
        wait_for(lambda: self._server.started, seconds=10)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def environment(self, token: str = WRITER) -> dict[str, str]:
        """What a person sets before `lyrics-lm connect dagshub ann/songs`."""
        return {"DAGSHUB_CLIENT_HOST": self.url, "DAGSHUB_USER_TOKEN": token}

    def objects(self) -> list[Path]:
        """Files that DVC pushed."""
        return [path for path in self._folder.rglob("*") if path.is_file()]

    async def _to_mlflow(self, request):
        read = request.method in _READS or request.url.path.endswith(("/search", "/get", "/get-by-name"))
        if refused := self._refusal(request, read):
            return refused
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        url = f"{self._mlflow}/{request.path_params['path']}"
        answer = await self._client.request(
            request.method, url, params=request.query_params.multi_items(), content=body, headers=headers
        )
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return Response(answer.content, answer.status_code, kept)

    async def _to_files(self, request):
        if refused := self._refusal(request, request.method in _READS):
            return refused
        path = self._folder / request.path_params["path"]
        if request.method in _READS:
            if not path.is_file():
                return Response(status_code=404)
            return Response(await asyncio.to_thread(path.read_bytes))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(await request.body())
        return Response(status_code=201)

    def _refusal(self, request, read):
        self.asked.append((request.method, request.url.path))
        with contextlib.suppress(KeyError, ValueError):
            scheme, _, encoded = request.headers["authorization"].partition(" ")
            user, _, token = base64.b64decode(encoded).decode().partition(":")
            if scheme == "Basic" and user == token and token in _RIGHTS:
                rights = _RIGHTS[token]
                return None if rights == "write" or (rights and read) else Response("Forbidden", 403)
        return Response("Unauthorized", 401)


@contextlib.contextmanager
def dagshub(folder: Path):
    """The server, over an MLflow of its own in `folder`."""
    home = folder / "server"
    with (
        server.tracking(params.Settings(home, home, None, params.Params())) as mlflow,
        DagsHub(folder / "files", mlflow) as host,
    ):
        yield host
