"""Next tokens from logits, for a whole batch at once, in numpy. Knows no model and no text."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


def random_stream(seed: int, choice: int = 0) -> np.random.Generator:
    """The random numbers of one choice of one request: the same wherever and beside whatever it runs.

    Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
    so streams of different keys are independent.
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, choice], dtype=np.uint64)))


def log_softmax(logits: npt.NDArray[np.floating]) -> DoubleArray:
    """Natural log-probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def sample(
    logits: FloatArray,
    uniforms: DoubleArray,
    temperature: float | DoubleArray,
    top_p: float | DoubleArray,
    forbidden: int | None,
    *,
    top_k: int | npt.NDArray[np.int64] = 0,
) -> npt.NDArray[np.int64]:
    """Token ids (B) from logits (B, V) and one uniform number in [0, 1) per row.

    How a row is drawn is given for all (a number) or for each (B); no row has a say in another's token.
    """
    weights = cumulative(logits, temperature, top_p, forbidden, top_k=top_k)
    draws = uniforms[:, None] * weights[:, -1:]
    return np.asarray((weights <= draws).sum(axis=-1), dtype=np.int64)


def cumulative(
    logits: FloatArray,
    temperature: float | DoubleArray,
    top_p: float | DoubleArray,
    forbidden: int | None,
    *,
    top_k: int | npt.NDArray[np.int64] = 0,
) -> DoubleArray:
    """Running sums (B, V) of the tokens' weights: a uniform share of the last one falls on a token as often
    as it is to be drawn.

    Temperature 0 gives all weight to the most likely token. `top_k` keeps so many of the likeliest (0: all),
    `top_p` the smallest set of tokens whose probability reaches it (nucleus sampling; Holtzman et al.,
    arXiv 1904.09751, section 3.1). `forbidden` has no weight: the unknown token stands for no text.
    """
    gaps = logits.astype(np.float64)
    if forbidden is not None and logits.shape[-1] > 1:
        gaps[:, forbidden] = -np.inf
    gaps -= gaps.max(axis=-1, keepdims=True)
    heat = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(gaps))
    greedy = np.flatnonzero(heat == 0)
    with np.errstate(over="ignore"):  # at a tiny temperature the gaps to the best are infinite, as they should be
        weights = np.exp(gaps / np.where(heat == 0, 1.0, heat)[:, None])
    if len(greedy):
        best = gaps[greedy].argmax(axis=-1)
        weights[greedy] = 0
        weights[greedy, best] = 1
    if np.any(np.asarray(top_k) > 0) or np.any(np.asarray(top_p) < 1):
        weights = _likeliest(weights, np.asarray(top_p), np.asarray(top_k))
    return np.asarray(weights.cumsum(axis=-1))


def _likeliest(weights: DoubleArray, top_p: DoubleArray, top_k: npt.NDArray[np.int64]) -> DoubleArray:
    """The weights inside `top_k` and the nucleus; 0 for the rest."""
    order = np.argsort(-weights, axis=-1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=-1)
    limit = np.where(top_k > 0, top_k, weights.shape[-1]).reshape(-1, 1)
    ranked = np.where(np.arange(weights.shape[-1]) < limit, ranked, 0.0)
    before = ranked.cumsum(axis=-1) - ranked
    enough = top_p.reshape(-1, 1) * ranked.sum(axis=-1, keepdims=True)
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, np.where(before < enough, ranked, 0.0), axis=-1)
    return kept
