"""Small bundles built by hand, node by node, for any test that needs one. No torch, no training."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from lyrics_lm import bundle
from lyrics_lm.bundle import MODEL, TOKENIZER, Bundle
from lyrics_lm.evaluation.conformance import known_answer
from lyrics_lm.inference.engine import Engine
from lyrics_lm.records import KnownAnswer, Manifest, Metrics, StateSpec

VOCAB = "\n abcdefghijklmnopqrstuvwxyz',.!?"
UNKNOWN = "<unk>"
WIDTH = 8
SUM_STATE = (StateSpec("total", (WIDTH,), "float32"),)

FloatArray = npt.NDArray[np.float32]


def bigram_bundle(directory: Path, *, vocab: str = VOCAB, seed: int = 0, name: str = "tiny") -> Bundle:
    """A table of random logits (V, V) over the characters of `vocab` and an unknown token. No state."""
    return graph_bundle(directory, bigram_graph(table(len(vocab) + 1, seed)), vocab=vocab, name=name)


def stateful_bundle(directory: Path, *, vocab: str = VOCAB, seed: int = 0, name: str = "stateful") -> Bundle:
    """Logits from a running sum over all that was read; the sum (WIDTH) is the state."""
    return graph_bundle(directory, sum_graph(len(vocab) + 1, seed), vocab=vocab, name=name, state=SUM_STATE)


def graph_bundle(
    directory: Path,
    graph: onnx.ModelProto,
    *,
    vocab: str = VOCAB,
    name: str = "tiny",
    context: int = 1,
    state: tuple[StateSpec, ...] = (),
    tokenizer: Tokenizer | None = None,
    known: KnownAnswer | None = None,
    **changes: Any,
) -> Bundle:
    """A bundle around `graph`; its known answer is its own unless `known` is given. `changes` go into
    the manifest after that, so that it can be made to lie."""
    manifest = Manifest(
        format=bundle.FORMAT,
        name=name,
        architecture="by hand",
        vocab_size=len(vocab) + 1,
        context=context,
        state=state,
        provenance={"git_commit": None},
        metrics=Metrics(bits_per_char=4.0, perplexity=16.0, split="test"),
        known_answer=known or KnownAnswer((1,), (0.0,)),
        files={},
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        onnx.save(graph, folder / MODEL)
        (tokenizer or character_tokenizer(vocab)).save(str(folder / TOKENIZER))
        if known is None:
            answer = known_answer(Engine(Bundle(folder, manifest, "")), (3, 1, 4, 1, 5))
            manifest = dataclasses.replace(manifest, known_answer=answer)
        sources = {file: folder / file for file in (MODEL, TOKENIZER)}
        return bundle.write(directory, sources, dataclasses.replace(manifest, **changes))


def character_tokenizer(vocab: str = VOCAB) -> Tokenizer:
    """One token per character: the unknown token is 0, then those of `vocab` in order."""
    ids = {character: place + 1 for place, character in enumerate(vocab)}
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0, **ids}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def table(rows: int, seed: int, columns: int | None = None) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(rows, columns or rows)).astype(np.float32)


def bigram_graph(logits: FloatArray, *, input_name: str = "tokens", output_name: str = "logits") -> onnx.ModelProto:
    """logits[b, t] = table[tokens[b, t]]."""
    return graph([_node("Gather", ["table", input_name], output_name)], [input_name], [output_name], {"table": logits})


def window_graph(logits: FloatArray, embedding: FloatArray) -> onnx.ModelProto:
    """logits[b, t] = table[tokens[b, t]] + sum of embedding[tokens[b, i]] over i <= t in the window."""
    nodes = [
        _node("Gather", ["table", "tokens"], "now"),
        _node("Gather", ["embedding", "tokens"], "each"),
        _node("CumSum", ["each", "axis"], "past"),
        _node("Add", ["now", "past"], "logits"),
    ]
    axis = np.array(1, dtype=np.int64)
    return graph(nodes, ["tokens"], ["logits"], {"table": logits, "embedding": embedding, "axis": axis})


def looking_ahead_graph(logits: FloatArray, *, masked: bool) -> onnx.ModelProto:
    """logits[b, t] = table[tokens[b, t]] + mean of the whole row's: of its padding too, unless `masked`."""
    nodes = [
        _node("Gather", ["table", "tokens"], "now"),
        *_mask_nodes(),
        _node("Mul", ["now", "mask"], "valid"),
        _node("ReduceSum", ["valid" if masked else "now", "axis"], "row", keepdims=1),
        _node("Add", ["now", "row"], "logits"),
    ]
    return graph(nodes, ["tokens", "lengths"], ["logits"], {"table": logits, **_constants()})


def sum_graph(vocab_size: int, seed: int, *, masked: bool = True) -> onnx.ModelProto:
    """total[b, t] = total + sum of embedding[tokens[b, i]] over i <= t; logits = tanh(total) W.

    Not `masked`, the padding of a row enters its next state.
    """
    nodes = [
        _node("Gather", ["embedding", "tokens"], "each"),
        *_mask_nodes(),
        _node("Mul", ["each", "mask"], "valid"),
        _node("CumSum", ["each", "one"], "since"),
        _node("Unsqueeze", ["total", "axis"], "before"),
        _node("Add", ["before", "since"], "running"),
        _node("Tanh", ["running"], "bounded"),
        _node("MatMul", ["bounded", "head"], "logits"),
        _node("ReduceSum", ["valid" if masked else "each", "axis"], "read", keepdims=0),
        _node("Add", ["total", "read"], "next_total"),
    ]
    weights = {"embedding": table(vocab_size, seed, WIDTH) / 4, "head": table(WIDTH, seed + 1, vocab_size)}
    return graph(nodes, ["tokens", "lengths", "total"], ["logits", "next_total"], {**weights, **_constants()})


def endless_graph(logits: FloatArray) -> onnx.ModelProto:
    """logits[b, t] = table[tokens[b, t]], and never back where a row holds the last token of the table."""
    kept = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("sum", "next_sum")]
    going = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("going", "goes_on")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    same = [_node("Identity", ["going"], "goes_on"), _node("Identity", ["sum"], "next_sum")]
    body = helper.make_graph(same, "forever", [turn, going[0], kept[0]], [going[1], kept[1]])
    nodes = [
        _node("Gather", ["table", "tokens"], "now"),
        _node("Equal", ["tokens", "trap"], "trapped"),
        _node("Cast", ["trapped"], "times", to=TensorProto.INT64),
        _node("ReduceMax", ["times"], "any", keepdims=0),
        _node("Mul", ["any", "endless"], "turns"),
        _node("Loop", ["turns", "yes", "nothing"], "sums", body=body),
        _node("Add", ["now", "sums"], "logits"),
    ]
    more = {"trap": np.array(len(logits) - 1), "endless": np.array(2**62), "yes": np.array(True)}
    return graph(nodes, ["tokens"], ["logits"], {"table": logits, "nothing": np.array(0, np.float32), **more})


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    weights: Mapping[str, npt.NDArray[Any]],
) -> onnx.ModelProto:
    """A model of those nodes; inputs are typed as the contract has it, by name."""
    shapes: dict[str, tuple[int, list[str | int]]] = {
        "lengths": (TensorProto.INT64, ["B"]),
        "total": (TensorProto.FLOAT, ["B", WIDTH]),
        "next_total": (TensorProto.FLOAT, ["B", WIDTH]),
    }
    tokens: tuple[int, list[str | int]] = (TensorProto.INT64, ["B", "T"])
    logits: tuple[int, list[str | int]] = (TensorProto.FLOAT, ["B", "T", "V"])
    made = helper.make_graph(
        list(nodes),
        "by_hand",
        [helper.make_tensor_value_info(name, *shapes.get(name, tokens)) for name in inputs],
        [helper.make_tensor_value_info(name, *shapes.get(name, logits)) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _mask_nodes() -> list[onnx.NodeProto]:
    """mask (B, T, 1): 1 where t < lengths[b]."""
    return [
        _node("Shape", ["tokens"], "width", start=1, end=2),
        _node("Squeeze", ["width"], "columns"),
        _node("Range", ["zero", "columns", "one"], "places"),
        _node("Unsqueeze", ["lengths", "axis"], "ends"),
        _node("Less", ["places", "ends"], "inside"),
        _node("Cast", ["inside"], "flat", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["flat", "last"], "mask"),
    ]


def _constants() -> dict[str, npt.NDArray[np.int64]]:
    return {
        "zero": np.array(0, dtype=np.int64),
        "one": np.array(1, dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
    }


def _node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], **attributes)
