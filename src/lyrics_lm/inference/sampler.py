"""Next tokens from logits, for a whole batch at once, in numpy. Knows no model and no text."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def random_stream(seed: int, choice: int = 0) -> np.random.Generator:
    """The random numbers of one choice of one request: the same wherever and beside whatever it runs.

    Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
    so streams of different keys are independent.
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, choice], dtype=np.uint64)))


def log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Natural log-probabilities along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def sample(
    logits: FloatArray, uniforms: npt.NDArray[np.float64], temperature: float, top_p: float, forbidden: int | None
) -> npt.NDArray[np.int64]:
    """Token ids (B) from logits (B, V) and one uniform number in [0, 1) per row.

    Temperature 0 takes the most likely token. `top_p` keeps the smallest set of tokens whose
    probability reaches it (nucleus sampling; Holtzman et al., arXiv 1904.09751, section 3.1).
    `forbidden` is never drawn: the unknown token stands for no text.
    """
    if forbidden is not None and logits.shape[-1] > 1:
        logits = logits.copy()
        logits[:, forbidden] = -np.inf
    if temperature == 0:
        return np.asarray(logits.argmax(axis=-1), dtype=np.int64)
    with np.errstate(over="ignore"):  # at a tiny temperature the gaps to the best are infinite, as they should be
        gaps = (logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)) / temperature
    probabilities = np.exp(log_softmax(gaps))
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(axis=-1)
    draws = uniforms[:, None] * cumulative[:, -1:]
    return np.asarray((cumulative <= draws).sum(axis=-1), dtype=np.int64)


def _nucleus(probabilities: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.float64]:
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=-1)
    outside = ranked.cumsum(axis=-1) - ranked >= top_p  # mass before this token already suffices
    ranked[outside] = 0
    kept = np.zeros_like(probabilities)
    np.put_along_axis(kept, order, ranked, axis=-1)
    return kept
