"""Which songs resemble which: MinHash over word triples, found by locality-sensitive hashing.

MinHash estimates the Jaccard similarity of two sets by the share of equal entries in two short
signatures (Broder 1997); cut into bands, signatures that agree on a whole band are worth comparing
(Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, section 3.4). Whether two songs are a pair
depends on those two alone, never on what else is in the corpus, and the hashes are the same on every
machine.
"""

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import rensa
from numpy.typing import NDArray

_ENTRIES = 256  # of a signature; the standard error of the estimate is then at most 0.03
_MISSED = 0.02  # share of pairs at the threshold that may go unseen
_SEED = 1
_SONGS_AT_ONCE = 100  # their arrays then stay in the cache of the processor

_ASCII = bytes(range(128))
_NO_WORD = "PSZC"  # Unicode categories: punctuation, symbols, separators, controls
_SPACE, _MARK = 32, 0
# Letters, digits and all bytes of other scripts stand; the rest of ASCII separates words.
_WORD_BYTES = bytes(b if b >= 128 or b == _MARK or chr(b).isalnum() else _SPACE for b in range(256))
_PRIME = 0x9E3779B97F4A7C15  # any odd number of 64 bits does: odd numbers have an inverse modulo 2**64
_INVERSE = pow(_PRIME, -1, 2**64)

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]


def near_pairs(texts: Sequence[str], threshold: float) -> Pairs:
    """Pairs (earlier, later) of indices, shape (N, 2), whose estimated similarity is `threshold` or more."""
    chunks = range(0, len(texts), _SONGS_AT_ONCE)
    hashed = [_triples(texts[start : start + _SONGS_AT_ONCE]) for start in chunks]
    triples = np.concatenate([part for part, _ in hashed] or [np.empty(0, np.uint64)])
    counts = np.concatenate([part for _, part in hashed] or [np.empty(0, np.int64)])
    width = _band_width(threshold)
    flags = _in_company(triples, counts, width)
    company = np.flatnonzero(flags)
    if not len(company):
        return np.empty((0, 2), np.int64)
    signatures = _signature_rows(triples[np.repeat(flags, counts)], counts[flags])
    return company[_similar(signatures, threshold, width)]


def _band_width(threshold: float) -> int:
    """Entries per band: as many as still let two songs at the threshold meet in some band. Songs of
    similarity s miss each other with probability (1 - s**width)**bands."""
    widths = (16, 8, 4, 2)
    return next((w for w in widths if (1 - threshold**w) ** (_ENTRIES // w) < _MISSED), 1)


def _triples(texts: Sequence[str]) -> tuple[Hashes, Pairs]:
    """Hashes of all word triples of the songs, song after song, and how many each song has.

    Two marks open a song and one closes it, so that a song of n words has n + 1 triples, none of
    them across songs, and even a song of one word has some.
    """
    data = np.frombuffer(_word_bytes("\0 \0 " + " \0 \0 \0 ".join(texts) + " \0"), np.uint8)
    words, starts = _words(data)
    triples = _mix(_mix(words[:-2]) * np.uint64(3) + _mix(words[1:-1]) * np.uint64(5) + words[2:])
    marks = np.flatnonzero(data[starts] == _MARK).reshape(-1, 3)  # word numbers of each song's marks
    inside = np.ones(len(words), bool)
    inside[marks[:, 2]] = inside[marks[:, 2] - 1] = False  # a triple that begins there ends in the next song
    return triples[inside[:-2]], marks[:, 2] - marks[:, 0] - 1


def _word_bytes(text: str) -> bytes:
    """The text in lower case and UTF-8, with a blank for all that is part of no word and no mark."""
    lowered = text.lower()
    beyond_ascii = lowered.encode().translate(None, _ASCII).decode()
    for char in sorted(set(beyond_ascii)):
        if unicodedata.category(char)[0] in _NO_WORD:
            lowered = lowered.replace(char, " ")
    return lowered.encode().translate(_WORD_BYTES)


def _words(data: NDArray[np.uint8]) -> tuple[Hashes, Pairs]:
    """A hash of each word, and where it starts: sum of byte[i] * PRIME**i over the word, shifted to 0."""
    edges = np.flatnonzero(np.diff(data != _SPACE, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * _powers(_PRIME, len(data)), out=sums[1:])
    return (sums[ends] - sums[starts]) * _powers(_INVERSE, len(data))[starts], starts


def _powers(base: int, count: int) -> Hashes:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


def _mix(values: Hashes) -> Hashes:
    """Spread the bits (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _signatures(triples: Hashes, counts: Pairs) -> rensa.RMinHashDigestMatrix:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    return rensa.RMinHash.digest_matrix_from_flat_token_hashes(triples, offsets, _ENTRIES, _SEED)


def _signature_rows(triples: Hashes, counts: Pairs) -> NDArray[np.uint32]:
    """Signatures (songs, entries); a few songs at a time, since each entry is a Python int on its way."""
    begins = np.concatenate([[0], np.cumsum(counts)])
    rows = []
    for start in range(0, len(counts), _SONGS_AT_ONCE):
        some = counts[start : start + _SONGS_AT_ONCE]
        part = triples[begins[start] : begins[start + len(some)]]
        rows.append(np.array(_signatures(part, some).to_rows(), dtype=np.uint32))
    return np.concatenate(rows)


def _in_company(triples: Hashes, counts: Pairs, width: int) -> NDArray[np.bool_]:
    """Which songs share a band with any other: few do, and only those need their signatures in numpy."""
    if not len(counts):
        return np.empty(0, bool)
    index = rensa.RMinHashLSH(0.5, _ENTRIES, _ENTRIES // width)  # the threshold plays no part in flags
    flags = index.query_duplicate_flags_matrix_one_shot(_signatures(triples, counts))
    return np.array(flags, dtype=bool)


def _similar(signatures: NDArray[np.uint32], threshold: float, width: int) -> Pairs:
    """Pairs of rows that share a band and agree on enough entries, each once, sorted."""
    found = np.empty(0, np.int64)
    for start in range(0, _ENTRIES, width):
        band = np.ascontiguousarray(signatures[:, start : start + width]).view(f"V{4 * width}").ravel()
        for first, second in _equal(np.unique(band, return_inverse=True)[1]):
            agree = (signatures[first] == signatures[second]).mean(axis=1) >= threshold
            found = np.union1d(found, first[agree] * len(signatures) + second[agree])
    return np.stack(np.divmod(found, len(signatures)), axis=1)


def _equal(keys: Pairs) -> Iterator[tuple[Pairs, Pairs]]:
    """Pairs of places with the same key, earlier first: neighbours in sorted order, then one apart, ..."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    at, apart = np.arange(len(keys)), 1
    while True:
        at = at[at < len(keys) - apart]
        at = at[ordered[at] == ordered[at + apart]]
        if not len(at):
            return
        yield order[at], order[at + apart]
        apart += 1
