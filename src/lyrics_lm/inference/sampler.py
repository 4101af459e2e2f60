"""Next tokens from logits, for a whole batch at once, in numpy. Knows no model and no text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

_COLDEST = 1e-12  # a temperature at which the likeliest token has all the weight, and nothing overflows


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


@dataclass(frozen=True)
class Draw:
    """How each row of a batch is drawn, laid out once for many steps: `heat` (B, 1) divides the logits of rows
    that are not `greedy`; `top_p` and `top_k` (B, 1) are None where no row is narrowed by them."""

    heat: DoubleArray
    greedy: npt.NDArray[np.int64]
    top_p: DoubleArray | None
    top_k: npt.NDArray[np.int64] | None
    forbidden: int | None

    @classmethod
    def of(
        cls,
        temperature: Sequence[float],
        top_p: Sequence[float],
        top_k: Sequence[int],
        forbidden: int | None,
    ) -> "Draw":
        """From the settings of B rows. Temperature 0 gives all weight to the most likely token. `top_k` keeps so
        many of the likeliest (0: all), `top_p` the smallest set of tokens whose probability reaches it (nucleus
        sampling; Holtzman et al., arXiv 1904.09751, section 3.1). `forbidden` has no weight: the unknown token
        stands for no text."""
        heat, share, most = np.array(temperature, dtype=np.float64), np.array(top_p), np.array(top_k)
        return cls(
            heat=np.where(heat == 0, 1.0, np.maximum(heat, _COLDEST))[:, None],
            greedy=np.flatnonzero(heat == 0),
            top_p=share[:, None] if (share < 1).any() else None,
            top_k=most[:, None] if (most > 0).any() else None,
            forbidden=forbidden,
        )


def sample(logits: FloatArray, uniforms: DoubleArray, draw: Draw) -> npt.NDArray[np.int64]:
    """Token ids (B) from logits (B, V) and one uniform number in [0, 1) per row. No row has a say in another's."""
    weights = cumulative(logits, draw)
    weights -= (uniforms * weights[:, -1])[:, None]
    return np.asarray((weights <= 0).sum(axis=-1), dtype=np.int64)


def cumulative(logits: FloatArray, draw: Draw) -> DoubleArray:
    """Running sums (B, V) of the tokens' weights: a uniform share of the last one falls on a token as often
    as it is to be drawn."""
    weights = logits.astype(np.float64)
    if draw.forbidden is not None and logits.shape[-1] > 1:
        weights[:, draw.forbidden] = -np.inf
    best = weights.argmax(axis=-1) if len(draw.greedy) else None
    weights -= weights.max(axis=-1, keepdims=True)
    weights /= draw.heat
    np.exp(weights, out=weights)
    if best is not None:
        weights[draw.greedy] = 0
        weights[draw.greedy, best[draw.greedy]] = 1
    if draw.top_p is not None or draw.top_k is not None:
        weights = _likeliest(weights, draw)
    return np.cumsum(weights, axis=-1, out=weights)


def _likeliest(weights: DoubleArray, draw: Draw) -> DoubleArray:
    """The weights inside `top_k` and the nucleus; 0 for the rest."""
    order = np.argsort(-weights, axis=-1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=-1)
    if draw.top_k is not None:
        limit = np.where(draw.top_k > 0, draw.top_k, weights.shape[-1])
        ranked = np.where(np.arange(weights.shape[-1]) < limit, ranked, 0.0)
    if draw.top_p is not None:
        before = ranked.cumsum(axis=-1) - ranked
        ranked = np.where(before < draw.top_p * ranked.sum(axis=-1, keepdims=True), ranked, 0.0)
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, ranked, axis=-1)
    return kept
