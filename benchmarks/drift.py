"""Claim: a drift is proved after a dozen prompts, and at most one unshifted stream in a hundred ever raises an alarm.

Prompts are two lines of songs that the model, a bigram counted on other songs, never saw. Each stream draws its own
reference and prompts: unshifted; a mild shift (artists of another genre, by name); a strong one (songs in other
languages, told by their commonest words); a slow one (the strong one, mixed in from 0% to 100% over 1,000 prompts).
A shift comes after 200 unshifted prompts. Without a file, prompts are lines of the generated sample, whose other
artists are the mild shift, and lines with their words spelt backwards the strong one.

Baselines on the same streams: Evidently's default test (`DataDriftPreset`, half of the columns must drift) on the
last 100 prompts, every 100; river's ADWIN, one per signal with a confidence that shares out 1% among them, which has
no reference but forgets; and KS over a window (`monitoring/window.py`), at 1% a look.

    python benchmarks/drift.py [songs.csv] [--streams 200] [--evidently 20] [--reference 500] [--unshifted 1000]
"""

import argparse
import csv
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas
from evidently import Report
from evidently.presets import DataDriftPreset
from river.drift import ADWIN

from lyrics_lm.corpus import sample
from lyrics_lm.monitoring import words
from lyrics_lm.monitoring.martingale import ConformalMartingale
from lyrics_lm.monitoring.signals import SIGNALS, reference, signals
from lyrics_lm.monitoring.window import WindowedKs
from lyrics_lm.records import TrafficRecord

LEVEL = 0.01
BEFORE, AFTER, UNSHIFTED, SLOW = 200, 2000, 5000, 1000
EVERY = 100
GENRE = {"Bing Crosby", "Andy Williams", "Billie Holiday", "Barbra Streisand", "Bette Midler"}
COMMON = [
    "que el la de y en los un por con mi tu es no se una para del las como",
    "je le les et des dans un une pas que tu est pour la",
    "che di non il la per un mi sei una con amore del",
    "und der die das ich nicht ist ein du wir mit auf",
    "ng na ang sa ko mo ka ako ay ikaw",
]


def foreign(text: str) -> bool:
    """Whether a fifth of its words are among the commonest of another language."""
    found = re.findall(r"\w+", text.lower())
    return bool(found) and max(sum(word in set(known.split()) for word in found) / len(found) for known in COMMON) > 0.2


def prompts(texts: list[str]) -> list[str]:
    lines = [[line.strip() for line in text.splitlines() if line.strip()] for text in texts]
    return [f"{song[at]}\n{song[at + 1]}" for song in lines for at in range(0, len(song) - 1, 2)]


def backwards(text: str) -> str:
    return "\n".join(" ".join(word[::-1] for word in line.split()) for line in text.splitlines())


def kinds(songs: Path | None, random: np.random.Generator) -> tuple[str, dict[str, list[str]]]:
    """The text that the bigram is counted on, and the prompts of each kind."""
    if songs is None:
        rows = [song._asdict() for song in sample.generate(1500)]
        genre = set(random.permutation(sorted({row["artist"] for row in rows}))[:10])
        others = [backwards(row["text"]) for row in rows]
    else:
        with open(songs, newline="") as file:
            rows = list(csv.DictReader(file))
        genre = GENRE
        others = [row["text"] for row in rows if foreign(row["text"])]
    usual = [row["text"] for row in rows if row["artist"] not in genre and not (songs and foreign(row["text"]))]
    random.shuffle(usual)
    third = len(usual) // 3
    mild = [row["text"] for row in rows if row["artist"] in genre and not foreign(row["text"])]
    shown = {"unshifted": prompts(usual[third:]), "mild": prompts(mild), "strong": prompts(others)}
    return "\n\n\n".join(usual[:third]), shown


def recorder(text: str) -> Callable[[str], TrafficRecord]:
    """From a prompt to its record, with bits per character of a bigram counted on `text`."""
    ids = {character: place + 1 for place, character in enumerate(sorted(set(text)))}
    tokens = np.array([ids[character] for character in text])
    counts = np.full((len(ids) + 1, len(ids) + 1), 0.5)
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    bits = -np.log2(counts / counts.sum(axis=1, keepdims=True))

    def record(prompt: str) -> TrafficRecord:
        own = np.array([ids.get(character, 0) for character in prompt])
        return TrafficRecord(
            time=0.0,
            request="",
            digest="",
            prompt=prompt,
            params={},
            text="",
            prompt_tokens=len(own),
            tokens=0,
            seconds=0.0,
            finish="",
            prompt_bits_per_char=float(bits[own[:-1], own[1:]].mean()) if len(own) > 1 else None,
            prompt_chars=len(prompt),
            unknown_share=float((own == 0).mean()),
            prompt_words=words.buckets(prompt),
        )

    return record


class Streams:
    """Streams of signals, seeded, each with its own reference."""

    def __init__(self, records: dict[str, list[TrafficRecord]], size: int) -> None:
        self._records, self._size = records, size

    def draw(self, kind: str, seed: int) -> tuple[np.ndarray, Iterator[np.ndarray]]:
        random = np.random.default_rng([2026, seed])
        usual = self._records["unshifted"]
        known = reference([usual[at] for at in random.integers(len(usual), size=self._size)])
        return known.array, (signals(record, known) for record in self._stream(kind, random))

    def _stream(self, kind: str, random: np.random.Generator) -> Iterator[TrafficRecord]:
        count = UNSHIFTED if kind == "unshifted" else BEFORE + AFTER
        for number in range(count):
            share = min(1.0, (number - BEFORE) / SLOW) if kind == "slow" else float(number >= BEFORE)
            from_kind = kind if kind in self._records else "strong"
            pool = self._records[from_kind if random.random() < share else "unshifted"]
            yield pool[random.integers(len(pool))]


def evidently(known: np.ndarray, rows: Iterator[np.ndarray]) -> int | None:
    """Rows seen at the first drift that Evidently's preset reports."""
    then = pandas.DataFrame(known, columns=list(SIGNALS))
    window = []
    for number, row in enumerate(rows, start=1):
        window.append(row)
        if number % EVERY == 0:
            now, window = pandas.DataFrame(window, columns=list(SIGNALS)), []
            made = Report([DataDriftPreset()]).run(now, then).dict()
            drifted = next(
                metric["value"] for metric in made["metrics"] if "DriftedColumnsCount" in metric["metric_name"]
            )
            if drifted["share"] >= 0.5:
                return number
    return None


def adwin(known: np.ndarray, rows: Iterator[np.ndarray]) -> int | None:
    """Rows seen at the first change that ADWIN reports; it is shown the reference first."""
    detectors = [ADWIN(delta=LEVEL / len(SIGNALS)) for _ in SIGNALS]
    for row in known:
        for detector, value in zip(detectors, row, strict=True):
            if np.isfinite(value):
                detector.update(value)
    for number, row in enumerate(rows, start=1):
        for detector, value in zip(detectors, row, strict=True):
            if np.isfinite(value):
                detector.update(value)
                if detector.drift_detected:
                    return number
    return None


def ours(kind: type[ConformalMartingale] | type[WindowedKs]) -> Callable[..., int | None]:
    def run(known: np.ndarray, rows: Iterator[np.ndarray]) -> int | None:
        detector = kind(known, SIGNALS, false_alarm=LEVEL)
        for row in rows:
            detector.update(row)
            if detector.finding:
                return detector.finding.seen
        return None

    return run


def show(name: str, kind: str, seen: list[int | None], seconds: float) -> None:
    """False alarms among all streams, and the delay among those that had none."""
    if kind == "unshifted":
        alarms = sum(one is not None for one in seen)
        print(f"{name:22} {kind:10} {alarms:4} of {len(seen)} streams of {UNSHIFTED} raised an alarm", end="")
    else:
        early = sum(one is not None and one <= BEFORE for one in seen)
        delays = [one - BEFORE if one else np.inf for one in seen if one is None or one > BEFORE]
        median, late = np.quantile(delays, [0.5, 0.9], method="lower") if delays else (np.nan, np.nan)
        found = sum(np.isfinite(delays))
        print(f"{name:22} {kind:10} found {found:4} of {len(seen)} within {AFTER}, delay median {median:.0f}", end="")
        print(f", 90% {late:.0f}; {early} cried before", end="")
    print(f"   ({seconds:.0f} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path, nargs="?", help="song file; the sample songs if there is none")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--evidently", type=int, default=20, help="streams for Evidently, which takes long")
    parser.add_argument("--reference", type=int, default=500)
    parser.add_argument("--unshifted", type=int, default=1000, help="unshifted streams for the martingale")
    asked = parser.parse_args()
    text, shown = kinds(asked.songs, np.random.default_rng(0))
    record = recorder(text)
    streams = Streams({kind: [record(prompt) for prompt in some] for kind, some in shown.items()}, asked.reference)
    print(f"reference {asked.reference}; prompts: {', '.join(f'{len(some)} {kind}' for kind, some in shown.items())}")
    runners: list[tuple[str, Callable[..., int | None], int]] = [
        ("martingale", ours(ConformalMartingale), asked.streams),
        ("KS over a window", ours(WindowedKs), asked.streams),
        ("river ADWIN", adwin, asked.streams),
        ("Evidently, each 100", evidently, asked.evidently),
    ]
    for name, run, count in runners:
        for kind in ("unshifted", "mild", "strong", "slow"):
            many = asked.unshifted if (name, kind) == ("martingale", "unshifted") else count
            began = time.monotonic()
            show(name, kind, [run(*streams.draw(kind, seed)) for seed in range(many)], time.monotonic() - began)


if __name__ == "__main__":
    main()
