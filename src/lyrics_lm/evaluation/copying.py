"""How much a model copies: it is asked to go on from training songs, and what it writes is looked up in them.

An extraction attack (Carlini et al., "Extracting training data from large language models", arXiv 2012.07805,
and "Quantifying memorization across neural language models", arXiv 2202.07646, section 3), measured against the
test songs, so that what any two songs have in common does not count as copying.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lyrics_lm.corpus.verbatim import Passage, Verbatim
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.stream import Sampling
from lyrics_lm.records import Copied, CopyingReport

PREFIXES = 500
FREE = 100  # texts from the beginning of a song, with nothing to go on from
_PREFIX = 50  # characters
_TOKENS = 100  # of each text
_TEMPERATURE = 0.8  # the page's own
_AT_ONCE = 128
_RESAMPLES = 2_000
_SEED = 2012
_WORST = 3
_SHOWN = 60  # characters of an example

Counts = npt.NDArray[np.int64]


def measure(
    generator: Generator, songs: Sequence[str], test_songs: Sequence[str], index: Verbatim, *, window: int
) -> CopyingReport:
    """Attack with prefixes of the training `songs` and without, and count runs of `window` characters that the
    index knows, in what was written and in the test songs. Seeded: the same model gives the same report."""
    texts = list(_texts(generator, _prompts(songs)))
    found = [index.passages(text) for text in texts]
    test_found = [index.passages(text) for text in test_songs]
    ours, theirs = _counts(texts, found, window), _counts(test_songs, test_found, window)
    low, high = _excess(ours, theirs)
    return CopyingReport(
        window=window,
        samples=len(texts),
        share=_share(ours),
        test_share=_share(theirs),
        excess_low=low,
        excess_high=high,
        longest=_longest(found),
        test_longest=_longest(test_found),
        worst=_worst(texts, found, index.names),
    )


def _prompts(songs: Sequence[str]) -> list[str]:
    """Openings of lines of training songs, then empty ones."""
    random = np.random.default_rng(_SEED)
    prompts = []
    for song in random.choice(len(songs), size=PREFIXES):
        text = songs[song]
        begins = [0, *(place + 1 for place, char in enumerate(text) if char == "\n" and text[place + 1 :].strip())]
        begin = begins[int(random.integers(len(begins)))]
        prompts.append(text[begin : begin + _PREFIX])
    return prompts + [""] * FREE


def _texts(generator: Generator, prompts: Sequence[str]) -> Iterator[str]:
    """What the model writes after each prompt, many at once."""
    for start in range(0, len(prompts), _AT_ONCE):
        batch = generator.batch()
        streams = []
        for place, prompt in enumerate(prompts[start : start + _AT_ONCE]):
            sampling = Sampling(max_tokens=_TOKENS, temperature=_TEMPERATURE, seed=start + place)
            stream = generator.stream(generator.vocabulary.encode(prompt), sampling)
            batch.add(stream)
            streams.append(stream)
        while len(batch):
            batch.turn()
        for stream in streams:
            piece = stream.take()
            yield piece.text if piece else ""


def _counts(texts: Sequence[str], found: Sequence[Sequence[Passage]], window: int) -> Counts:
    """Of each text, how many runs of `window` characters are known, and how many it has (texts, 2)."""
    counts = []
    for text, passages in zip(texts, found, strict=True):
        known = np.zeros(max(0, len(text) - window + 1), dtype=bool)
        for passage in passages:
            known[passage.start : max(passage.start, passage.end - window + 1)] = True
        counts.append((int(known.sum()), len(known)))
    return np.array(counts, dtype=np.int64)


def _share(counts: Counts) -> float:
    known, every = counts.sum(axis=0)
    return float(known / every) if every else 0.0


def _excess(ours: Counts, theirs: Counts) -> tuple[float, float]:
    """95% interval of the difference of the shares, by bootstrap over texts."""
    random = np.random.default_rng(_SEED)

    def drawn(counts: Counts) -> npt.NDArray[np.float64]:
        sums = counts[random.integers(len(counts), size=(_RESAMPLES, len(counts)))].sum(axis=1)
        return np.asarray(sums[:, 0] / np.maximum(1, sums[:, 1]))

    low, high = np.quantile(drawn(ours) - drawn(theirs), [0.025, 0.975])
    return float(low), float(high)


def _longest(found: Sequence[Sequence[Passage]]) -> int:
    return max((passage.end - passage.start for passages in found for passage in passages), default=0)


def _worst(texts: Sequence[str], found: Sequence[Sequence[Passage]], names: Sequence[str]) -> tuple[Copied, ...]:
    """The longest passage of each of the songs copied most, cut short."""
    longest: dict[int, tuple[int, str]] = {}
    for text, passages in zip(texts, found, strict=True):
        for passage in passages:
            length = passage.end - passage.start
            if length > longest.get(passage.song, (0, ""))[0]:
                longest[passage.song] = (length, text[passage.start : passage.end])
    worst = sorted(longest.items(), key=lambda item: (-item[1][0], item[0]))[:_WORST]
    return tuple(Copied(_shortened(text), length, names[song]) for song, (length, text) in worst)


def _shortened(text: str) -> str:
    line = " / ".join(part for part in text.split("\n") if part)
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
