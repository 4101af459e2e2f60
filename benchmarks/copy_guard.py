"""What the copy guard costs: seconds per token of the same answers with and without it, streamed as a client has them.

python benchmarks/copy_guard.py [SONGS.csv]
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lyrics_lm import bundle, params
from lyrics_lm.corpus import sample, verbatim
from lyrics_lm.corpus.songs import read_songs
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.scheduler import Scheduler
from lyrics_lm.records import LiveVersion
from lyrics_lm.serving.completions import Answer
from lyrics_lm.serving.guard import Guard
from lyrics_lm.serving.live import Serving
from lyrics_lm.serving.types import CompletionRequest
from lyrics_lm.steps.init import init
from lyrics_lm.steps.train import train

TOKENS, ROUNDS, STREAMS = 400, 9, 16


def main(songs: Path | None) -> None:
    """Train a small transformer on sample songs, index these songs (or those given), and time both."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        csv = place / "songs.csv"
        sample.write(csv)
        init(place / "mine", [csv])
        params.override(place / "mine", ["training.steps=100"])
        train(params.load(place / "mine"))
        made = bundle.read(place / "mine" / "build" / "bundle")
        texts = read_songs([songs or csv], params.load(place / "mine").params.corpus).songs["text"].to_list()
        index = verbatim.build(texts, [""] * len(texts))
        print(f"index of {sum(map(len, texts)) / 1e6:.1f} million characters; {TOKENS} tokens, the transformer")
        guard = Guard(lambda: index, 50)
        for streams in (1, STREAMS):
            times: dict[bool, list[float]] = {True: [], False: []}
            for turn in range(2 * ROUNDS):
                guarded = bool(turn % 2)
                times[guarded].append(asyncio.run(seconds(made, guard if guarded else None, streams)))
            with_guard, without = (1e6 * statistics.median(times[key]) / TOKENS / streams for key in (True, False))
            print(
                f"{streams:>3} streams: {without:.1f} microseconds a token without, {with_guard:.1f} with the guard: "
                f"{with_guard - without:.1f} more, {with_guard / without:.3f} times"
            )


async def seconds(made: bundle.Bundle, guard: Guard | None, streams: int) -> float:
    """Of so many answers side by side, to their last frame."""
    generator = Generator(made)
    version = LiveVersion(1, made.digest, "", "", 1.0, "", str(made.path))
    serving = Serving(generator, Scheduler(generator.batch), version, 0.0, "")

    async def read(seed: int) -> None:
        request = CompletionRequest(prompt="love is", max_tokens=TOKENS, seed=seed, stream=True)
        async for _ in Answer(request, serving, str(seed), guard).frames():
            pass

    await read(0)
    began = time.perf_counter()
    await asyncio.gather(*(read(seed) for seed in range(streams)))
    return time.perf_counter() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
