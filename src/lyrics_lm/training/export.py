"""From a torch module to `model.onnx`, on the CPU and in float32 whatever it was trained on, and checked."""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import helper
from torch import Tensor, nn

from lyrics_lm.bundle import IN_PLACE
from lyrics_lm.errors import ModelError
from lyrics_lm.training.bigram import OPSET
from lyrics_lm.training.model import Stateful, state_of, where

_TOLERANCE = 1e-4
_TRACED_BATCH, _TRACED_TIME = 2, 5
_REMEDY = "let its forward use tensor operations only, with no `if` and no Python number from a tensor's values"


def export(model: nn.Module, context: int, vocab_size: int, path: Path) -> None:
    """Write the graph of a model; raises `ModelError` when it cannot be exported or answers differently."""
    model = model.to("cpu", torch.float32).eval()
    graph: nn.Module = _Step(model) if isinstance(model, Stateful) else _Window(model)
    inputs = _inputs(model, context, vocab_size, _TRACED_BATCH, _TRACED_TIME)
    names = ["tokens", *(["lengths"] if state_of(model) else []), *(spec.name for spec in state_of(model))]
    outputs = ["logits", *(f"next_{spec.name}" for spec in state_of(model))]
    try:
        with _silence(), torch.inference_mode():
            program = torch.onnx.export(
                graph,
                inputs,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=(tuple(_dynamic(inputs)),),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises classes of many modules
        reason = where(error.__cause__ or error, Path(type(model).forward.__code__.co_filename))
        raise ModelError(f"the model cannot be exported to ONNX: {reason}; {_REMEDY}") from error
    assert program is not None  # None is for the old exporter
    proto = _anonymous(program.model_proto)
    if getattr(model, "in_place", False):
        helper.set_model_props(proto, {IN_PLACE: "1"})
    onnx.save(proto, path)
    _compare(graph, model, context, vocab_size, names, path)


class _Window(nn.Module):
    """tokens -> logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(inputs[0])  # type: ignore[no-any-return]  # torch modules are called untyped


class _Step(nn.Module):
    """tokens, lengths, state -> logits, next state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.model.step(*inputs)  # type: ignore[operator, no-any-return]  # as `Stateful` has it


def _inputs(model: nn.Module, context: int, vocab_size: int, batch: int, time: int) -> tuple[Tensor, ...]:
    """Random inputs; all tensors distinct objects, for equal ones would be merged in the graph."""
    randomness = torch.Generator().manual_seed(batch * 1000 + time)
    tokens = torch.randint(
        vocab_size, (batch, min(time, context) if not state_of(model) else time), generator=randomness
    )
    if not state_of(model):
        return (tokens,)
    lengths = torch.randint(1, time + 1, (batch,), generator=randomness)
    state = [torch.zeros((batch, *spec.shape), dtype=getattr(torch, spec.dtype)) for spec in state_of(model)]
    return (tokens, lengths, *state)


def _dynamic(inputs: Sequence[Tensor]) -> list[dict[int, torch.export.Dim]]:
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    return [{0: batch, 1: time}, *({0: batch} for _ in inputs[1:])]


def _compare(
    graph: nn.Module, model: nn.Module, context: int, vocab_size: int, names: Sequence[str], path: Path
) -> None:
    """Run graph and module side by side, ragged and over more than two windows."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    for batch, time in ((1, 1), (3, min(context, 7)), (2, context)):
        inputs = _inputs(model, context, vocab_size, batch, time)
        for _ in range(3):
            with torch.inference_mode():
                expected = graph(*inputs)
            given = _answer(session, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
            wanted = expected if isinstance(expected, tuple) else (expected,)
            worst = max(_difference(one, other.numpy()) for one, other in zip(given, wanted, strict=True))
            if not worst <= _TOLERANCE:
                raise ModelError(f"the exported graph differs from the model by {worst:.2g}; see what export changes")
            inputs = (*inputs[:2], *wanted[1:]) if state_of(model) else inputs


def _difference(given: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    """The largest difference, of numbers beyond 1 as a share of the largest: so rounding grows."""
    return float(np.abs(given - wanted).max() / max(1.0, np.abs(wanted).max()))


def _answer(
    session: onnxruntime.InferenceSession, feed: dict[str, npt.NDArray[np.generic]]
) -> list[npt.NDArray[np.float32]]:
    try:
        outputs: list[npt.NDArray[np.float32]] = session.run(None, feed)
    except Exception as error:  # ONNX Runtime raises classes of its own extension module, and no common base
        reason = " ".join(str(error).split())
        raise ModelError(f"the exported graph fails on tokens {feed['tokens'].shape}: {reason}; {_REMEDY}") from error
    return outputs


def _anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the traces of the machine that the exporter leaves: equal models are equal bytes."""
    del model.metadata_props[:]
    model.producer_version = ""
    graphs = [model.graph, *model.functions]
    for part in graphs:
        part.doc_string = ""
        del part.metadata_props[:]
        for node in part.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    return model


@contextlib.contextmanager
def _silence():  # type: ignore[no-untyped-def]  # noqa: ANN202  # a context manager of nothing
    """Keep the exporter's chatter off the screen; what it raises still comes through."""
    logging.disable(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
