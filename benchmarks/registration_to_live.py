"""Claim: a better version is live in under ten seconds from its registration, and no request fails meanwhile.

A whole loop runs (`lyrics-lm up`) under a load of clients. Versions, each better than the one before,
are registered one by one; the clock runs from the moment MLflow has a version until `/v1/models` shows
it: fetch, gates, Bento, validation and swap. Then `lyrics-lm undo` is timed, from its change of the
rollout to what is served. The `baseline` is the usual last step of a deployment, restarting the service:
seconds without an answer, and requests that failed, under the same load.

    python benchmarks/registration_to_live.py [--clients 8]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import onnx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from load import Load
from lyrics_lm import bundle, params, rollout
from lyrics_lm.bundle import MODEL, TOKENIZER
from lyrics_lm.evaluation.conformance import known_answer
from lyrics_lm.inference.engine import Engine
from lyrics_lm.steps.register import register
from lyrics_lm.steps.undo import undo
from workspaces import Up, cli, make_workspace, wait_for

SHARPNESS = (0.6, 0.7, 0.8, 0.9, 1.0)
RESTARTS = 3


def versions(folder: Path) -> list[Path]:
    """One trained transformer, its logits scaled down ever less: each bundle is better than the last."""
    maker = make_workspace(folder / "maker", **{"training.steps": 400, "model.width": 72})
    cli(maker, "train")
    trained = bundle.read(maker / "build" / "bundle")
    return [_scaled(trained, sharpness, folder / f"bundle-{sharpness}") for sharpness in SHARPNESS]


def _scaled(trained: bundle.Bundle, sharpness: float, path: Path) -> Path:
    model = onnx.load(trained.path / MODEL)
    for node in model.graph.node:
        node.output[:] = ["sharp" if name == "logits" else name for name in node.output]
    model.graph.initializer.append(onnx.helper.make_tensor("sharpness", onnx.TensorProto.FLOAT, [], [sharpness]))
    model.graph.node.append(onnx.helper.make_node("Mul", ["sharp", "sharpness"], ["logits"]))
    file = path.with_suffix(".onnx")
    onnx.save(model, file)
    files = {MODEL: file, TOKENIZER: trained.path / TOKENIZER}
    draft = bundle.write(path, files, trained.manifest)
    answer = known_answer(Engine(draft), trained.manifest.known_answer.tokens)
    bundle.write(path, files, replace(trained.manifest, known_answer=answer))
    return path


def delivered(up: Up, path: Path) -> float:
    """Seconds from a version's registration to its being live."""
    settings = params.load(up.workspace)
    version = register(settings, path).version
    return timed(lambda: up.wait_live(version, seconds=60))


def undone(up: Up) -> float:
    """Seconds from the undo's change of the rollout to what it brings back being live."""
    before = (up.live() or {}).get("version")
    undo(params.load(up.workspace), "local")
    changed = rollout.path(up.home, "local").stat().st_mtime
    wait_for(lambda: (up.live() or {}).get("version") != before, every=0.005)
    return time.time() - changed


def restarted(up: Up) -> float:
    """Seconds without an answer when the service is restarted."""
    [*_, pid] = [min(up.pids("service"))]
    subprocess.run(["kill", str(pid)], check=True)
    wait_for(lambda: _silent(up.url), every=0.005)
    return timed(lambda: up.live())


def _silent(url: str) -> bool:
    try:
        httpx.get(f"{url}/livez", timeout=1)
    except httpx.TransportError:
        return True
    return False


def timed(what: Callable[[], object]) -> float:
    began = time.monotonic()
    wait_for(what, seconds=60, every=0.01)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    clients = parser.parse_args().clients
    with tempfile.TemporaryDirectory() as folder:
        made = versions(Path(folder))
        workspace = make_workspace(Path(folder) / "mine", **{"model.name": "bigram"})
        up = Up(workspace)
        try:
            up.wait_live(seconds=120)
            measure(up, made, clients)
        finally:
            up.end()


def measure(up: Up, made: list[Path], clients: int) -> None:
    with Load(up.url, clients) as load:
        seconds = [delivered(up, path) for path in made]
    report("registration to live", seconds, load)
    with Load(up.url, clients) as load:
        back = [undone(up) for _ in made[:RESTARTS]]
    report("undo to live", back, load)
    with Load(up.url, clients) as load:
        silent = [restarted(up) for _ in range(RESTARTS)]
    report("baseline: restart, unanswered", silent, load)
    print(f"a swap in {statistics.median(silent) / statistics.median(back):.0f}x less time than a restart")


def report(name: str, seconds: list[float], load: Load) -> None:
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(
        f"{name:30} median {statistics.median(seconds):6.2f} s ({spread}), "
        f"{load.answers} answers, {len(load.failures)} failed",
        flush=True,
    )


if __name__ == "__main__":
    main()
