"""Bundles for a drill: the counted bigram, spoilt less each time, and versions that misbehave once they serve."""

import dataclasses
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lyrics_lm import bundle
from lyrics_lm.bundle import MODEL, TOKENIZER, Bundle
from lyrics_lm.corpus import dataset
from lyrics_lm.records import KnownAnswer, Manifest, Metrics
from lyrics_lm.training import bigram
from lyrics_lm.training.bigram import IR_VERSION, OPSET

WORST = 0.9  # share of every prediction that is mere noise
_BETTER = 0.6  # of the noise before
_LEAST = 0.01  # of noise that makes a difference
_KNOWN = 3  # the token that the known answer follows
_ENDLESS = 2**62
TROUBLE = "☃"  # a character that no song has: what a version stumbles over, if at all


class Supply:
    """Makes bundles around the bigram of a prepared corpus, in a folder of its own."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        self._folder = folder
        summary = dataset.load_summary(prepared)
        self._size = summary.vocab_size
        folder.mkdir(parents=True)
        self._tokenizer = folder / dataset.TOKENIZER
        shutil.copyfile(prepared / dataset.TOKENIZER, self._tokenizer)  # the corpus may be prepared anew meanwhile
        self._unknown = dataset.load_tokenizer(prepared).encode(TROUBLE).ids[0]
        self._chances = np.exp(bigram.count(dataset.load_tokens(prepared, "train"), self._size))
        self._noise = WORST
        self._made = 0

    def worst(self) -> Bundle:
        """One that the next ones beat."""
        self._noise = WORST
        return self.better()

    def better(self) -> Bundle:
        """Better than the one before."""
        made = self._bundle(self._plain())
        self._noise *= _BETTER
        return made

    @property
    def is_exhausted(self) -> bool:
        """Whether the next one would hardly be better."""
        return self._noise < _LEAST

    def several(self, count: int) -> list[Bundle]:
        """Each better than the one before, by less."""
        return [self._bundle(self._plain(WORST * 0.9**step)) for step in range(1, count + 1)]

    def crashing(self) -> Bundle:
        """Fails whenever it reads a character that no song has: its second table has no row for it."""
        last = np.array(self._size, dtype=np.int64)
        nodes = [
            helper.make_node("Gather", ["table", "tokens"], ["now"]),
            helper.make_node("Equal", ["tokens", "unknown"], ["strange"]),
            helper.make_node("Where", ["strange", "last", "tokens"], ["place"]),
            helper.make_node("Gather", ["none", "place"], ["nothing"]),
            helper.make_node("Add", ["now", "nothing"], ["logits"]),
        ]
        none = np.zeros((self._size, 1), dtype=np.float32)
        return self._bundle(_graph(nodes, self._size, {**self._table(), "last": last, "none": none}), context=2)

    def hogging(self) -> Bundle:
        """Asks for a terabyte of memory whenever it reads such a character."""
        nodes = [
            helper.make_node("Gather", ["table", "tokens"], ["now"]),
            helper.make_node("Equal", ["tokens", "unknown"], ["strange"]),
            helper.make_node("Cast", ["strange"], ["times"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["times"], ["any"], keepdims=0),
            helper.make_node("Mul", ["any", "much"], ["rows"]),
            helper.make_node("Unsqueeze", ["rows", "axis"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["memory"]),
            helper.make_node("ReduceSum", ["memory"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["now", "nothing"], ["logits"]),
        ]
        more = {"much": np.array(2**38, dtype=np.int64), "axis": np.array([0], dtype=np.int64)}
        return self._bundle(_graph(nodes, self._size, {**self._table(), **more}), context=2)

    def hanging(self) -> Bundle:
        """Never ends once it reads such a character."""
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["going"], ["goes_on"]),
                helper.make_node("Add", ["sum", "one"], ["next_sum"]),
            ],
            "forever",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("going", TensorProto.BOOL, []),
                helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
            ],
            [
                helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next_sum", TensorProto.FLOAT, []),
            ],
        )
        nodes = [
            helper.make_node("Gather", ["table", "tokens"], ["now"]),
            helper.make_node("Equal", ["tokens", "unknown"], ["strange"]),
            helper.make_node("Cast", ["strange"], ["times"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["times"], ["any"], keepdims=0),
            helper.make_node("Mul", ["any", "endless"], ["turns"]),
            helper.make_node("Loop", ["turns", "yes", "zero"], ["sums"], body=body),
            helper.make_node("Mul", ["sums", "zero"], ["nothing"]),
            helper.make_node("Add", ["now", "nothing"], ["logits"]),
        ]
        more: dict[str, npt.NDArray[np.generic]] = {
            "endless": np.array(_ENDLESS, dtype=np.int64),
            "yes": np.array(True),
            "zero": np.array(0, dtype=np.float32),
            "one": np.array(1, dtype=np.float32),
        }
        return self._bundle(_graph(nodes, self._size, {**self._table(), **more}), context=2)

    def _plain(self, noise: float | None = None) -> onnx.ModelProto:
        nodes = [helper.make_node("Gather", ["table", "tokens"], ["logits"])]
        return _graph(nodes, self._size, {"table": self._logits(self._noise if noise is None else noise)})

    def _table(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"table": self._logits(self._noise), "unknown": np.array(self._unknown, dtype=np.int64)}

    def _logits(self, noise: float) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = np.log((1 - noise) * self._chances + noise / self._size).astype(np.float32)
        return logits

    def _bundle(self, graph: onnx.ModelProto, context: int = 1) -> Bundle:
        """With a context of 1 the engine reads the whole table when it loads; with more, it meets each token live."""
        self._made += 1
        name = f"drill-{self._made}"
        [table] = [numpy_helper.to_array(one) for one in graph.graph.initializer if one.name == "table"]
        manifest = Manifest(
            format=bundle.FORMAT,
            name=name,
            architecture="bigram",
            vocab_size=self._size,
            context=context,
            state=(),
            provenance={"git_commit": None},
            metrics=Metrics(bits_per_char=8.0, perplexity=256.0, split="none"),
            known_answer=KnownAnswer((_KNOWN,), tuple(float(logit) for logit in table[_KNOWN])),
            files={},
        )
        with tempfile.TemporaryDirectory() as place:
            model = Path(place) / MODEL
            onnx.save(graph, model)
            sources = {MODEL: model, TOKENIZER: self._tokenizer}
            return bundle.write(self._folder / name, sources, dataclasses.replace(manifest))


def _graph(nodes: list[onnx.NodeProto], size: int, weights: dict[str, npt.NDArray[np.generic]]) -> onnx.ModelProto:
    """tokens (B, T) -> logits (B, T, V)."""
    graph = helper.make_graph(
        nodes,
        "drill",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["B", "T"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "T", size])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
