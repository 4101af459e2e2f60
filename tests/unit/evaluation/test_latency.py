import time

from bundles import bigram_bundle, stateful_bundle
from lyrics_lm.evaluation import latency
from lyrics_lm.inference.engine import Engine


class SlowEngine(Engine):
    """An engine whose every call takes two milliseconds more."""

    def run(self, rows, tensors):
        time.sleep(0.002)
        return super().run(rows, tensors)


def test_a_slower_model_is_seen_as_slower(tmp_path):
    """Each engine's own time comes back, in milliseconds per token, whichever of the two it is."""
    fast, slow = bigram_bundle(tmp_path / "fast"), stateful_bundle(tmp_path / "slow")
    candidate, champion = latency.interleaved(Engine(fast), SlowEngine(slow), tokens=4, rounds=5)
    assert champion is not None
    assert 0 < candidate < 2 <= champion
    candidate, champion = latency.interleaved(SlowEngine(slow), Engine(fast), tokens=4, rounds=5)
    assert champion is not None
    assert 0 < champion < 2 <= candidate


def test_without_a_champion_there_is_one_time(tmp_path):
    assert latency.interleaved(Engine(bigram_bundle(tmp_path / "b")), None, rounds=2)[1] is None


def test_a_slow_model_does_not_hold_the_gate_up(tmp_path, monkeypatch):
    """However many rounds are asked for, they end when the time is spent."""
    monkeypatch.setattr(latency, "_SECONDS", 0.05)
    started = time.perf_counter()
    latency.interleaved(SlowEngine(bigram_bundle(tmp_path / "b")), None, rounds=100_000)
    assert time.perf_counter() - started < 5
