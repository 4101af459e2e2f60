"""Traffic that turns: prompts of one kind, then of another, as the service would have logged them."""

import time

import numpy as np

from lyrics_lm import rollout
from lyrics_lm.monitoring import words
from lyrics_lm.records import TrafficRecord
from lyrics_lm.traffic import Keeping, TrafficLog

SONG = "love is all i know and the night goes on until you come home to me again"
OTHER = "la noche larga sigue hasta que vuelves conmigo otra vez amor mio siempre"


def turn(settings):
    """60 requests for the live version as usual, then 60 of another kind, all of them old enough to be read."""
    traffic(settings, 60, SONG, 2.0, seed=1)
    traffic(settings, 60, OTHER, 4.0, seed=2)
    time.sleep(1.1)


def traffic(settings, count, text, bits, seed):
    live = rollout.read(settings.home, "local").live
    random = np.random.default_rng(seed)
    log = TrafficLog(settings.home / "traffic", Keeping(store_text=settings.params.traffic.store_text))
    for number in range(count):
        prompt = " ".join(random.choice(text.split(), size=5))
        log.append(
            TrafficRecord(
                time=time.time(),
                request=f"r{seed}-{number}",
                digest=live.digest,
                prompt=prompt,
                params={},
                text="",
                prompt_tokens=len(prompt),
                tokens=1,
                seconds=0.1,
                finish="stop",
                prompt_bits_per_char=float(random.normal(bits, 0.2)),
                prompt_chars=len(prompt),
                prompt_words=words.buckets(prompt),
            )
        )
    log.close()
