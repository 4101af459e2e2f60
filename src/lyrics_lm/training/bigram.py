"""The bigram: counted, not trained. The floor that every other model must beat. Needs no torch."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

ARCHITECTURE = "bigram"
CONTEXT = 1
OPSET, IR_VERSION = 23, 11  # from here on the root mean square norm is one operator

# Pseudo-count of every pair, so that a pair never seen is unlikely rather than impossible
# (Krichevsky and Trofimov, "The performance of universal encoding", 1981).
_PSEUDO_COUNT = 0.5
_CHUNK = 4_000_000  # pairs counted at once: bounds memory, whatever the corpus


def count(tokens: npt.NDArray[np.integer], vocab_size: int) -> npt.NDArray[np.float32]:
    """Log-probabilities (V, V), row = token before, from one pass over token ids (N)."""
    counts = np.zeros(vocab_size * vocab_size, dtype=np.int64)
    for start in range(0, len(tokens) - 1, _CHUNK):
        chunk = tokens[start : start + _CHUNK + 1].astype(np.int64)
        counts += np.bincount(chunk[:-1] * vocab_size + chunk[1:], minlength=len(counts))
    smoothed = counts.reshape(vocab_size, vocab_size) + _PSEUDO_COUNT
    table: npt.NDArray[np.float32] = np.log(smoothed / smoothed.sum(axis=1, keepdims=True)).astype(np.float32)
    return table


def mean_loss(table: npt.NDArray[np.float32], tokens: npt.NDArray[np.integer]) -> float:
    """Nats per token of a text under a table of log-probabilities."""
    return -float(table[tokens[:-1], tokens[1:]].mean(dtype=np.float64))


def export(table: npt.NDArray[np.float32], path: Path) -> None:
    """The table as a graph: logits (B, T, V) are rows looked up by `tokens` (B, T)."""
    vocab_size = len(table)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "tokens"], ["logits"], axis=0)],
        ARCHITECTURE,
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "time"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", vocab_size])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, path)
