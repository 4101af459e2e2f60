"""What a trainable model is, and how one is built from `params.yaml`: built in, or a class of the user's own."""

import importlib.util
import traceback
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lyrics_lm.errors import ModelError
from lyrics_lm.params import ModelParams
from lyrics_lm.records import StateSpec
from lyrics_lm.training.transformer import Transformer

TRANSFORMER = "transformer"
_TRIAL_BATCH, _TRIAL_TIME = 2, 3
_PARAGRAPH = "\n\n"


@runtime_checkable
class Stateful(Protocol):
    """A model that reads a token at a time. Any torch module may add this; without it, the engine
    shows the model the last `context` tokens at each step.

    `state` lists its tensors for one sequence; they start as zeros. `step` takes tokens (B, T),
    lengths (B) of valid tokens per row (left-aligned; what is behind them must not matter) and the
    state with batch in front; it gives logits (B, T, V) and the next state. A model whose exported step
    may write the next state over the state where T is 1 says so by an attribute `in_place`.
    """

    state: tuple[StateSpec, ...]

    def step(self, tokens: Tensor, lengths: Tensor, *state: Tensor) -> tuple[Tensor, ...]: ...


def build(params: ModelParams, vocab_size: int, root: Path) -> nn.Module:
    """The model that `params` names: tokens (B, T) in, logits (B, T, V) out, T up to `context`.

    Raises `ModelError` when a class of the user's own cannot be found, built or run.
    """
    if params.name == TRANSFORMER:
        try:
            sizes = (params.context, params.layers, params.width, params.heads, params.ngrams)
            return Transformer(vocab_size, *sizes)
        except ValueError as error:
            raise ModelError(f"{error}; change model.width or model.heads in params.yaml") from error
    file, _, name = params.name.partition(":")
    model = _construct(_load(root / file, name), root / file, vocab_size, params)
    _try_out(model, vocab_size, params, root / file)
    return model


def state_of(model: nn.Module) -> tuple[StateSpec, ...]:
    """The state of a model; none for one that only looks at its window."""
    return tuple(model.state) if isinstance(model, Stateful) else ()


def _load(path: Path, name: str) -> type[nn.Module]:
    if not path.is_file():
        raise ModelError(f"{path} does not exist; model.name in params.yaml names it")
    spec = importlib.util.spec_from_file_location(f"_workspace_model_{path.stem}", path)
    assert spec  # a .py file always has one
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{path} cannot be imported: {where(error, path)}; mend it") from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        classes = [
            key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)
        ]
        raise ModelError(f"{path} has no torch module {name}; it has: {', '.join(classes) or 'none'}")
    return found


def _construct(kind: type[nn.Module], path: Path, vocab_size: int, params: ModelParams) -> nn.Module:
    arguments: dict[str, Any] = {"vocab_size": vocab_size, "context": params.context, **params.args}
    try:
        return kind(**arguments)
    except Exception as error:
        raise ModelError(
            f"{params.name}({', '.join(arguments)}) failed: {where(error, path)}; mend it, or model.args in params.yaml"
        ) from error


def _try_out(model: nn.Module, vocab_size: int, params: ModelParams, path: Path) -> None:
    """One tiny batch, so that a wrong shape is met before an hour of training."""
    time = min(_TRIAL_TIME, params.context)
    tokens = torch.zeros(_TRIAL_BATCH, time, dtype=torch.int64)
    try:
        logits = model(tokens)
    except Exception as error:
        raise ModelError(f"{params.name} failed on tokens (2, {time}): {where(error, path)}; mend it") from error
    wanted = (_TRIAL_BATCH, time, vocab_size)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f"{params.name} gives {shape} for tokens (2, {time}); return logits of shape {wanted}")
    if isinstance(model, Stateful):
        _try_step(model, tokens, logits, params.name, path)


def _try_step(model: Stateful, tokens: Tensor, logits: Tensor, name: str, path: Path) -> None:
    """The same for `step`, from an empty state."""
    batch, time = tokens.shape
    try:
        state = [torch.zeros((batch, *spec.shape), dtype=getattr(torch, spec.dtype)) for spec in model.state]
        given = model.step(tokens, torch.full((batch,), time), *state)
    except Exception as error:
        raise ModelError(f"{name}.step failed on tokens (2, {time}): {where(error, path)}; mend it") from error
    found, wanted = _described(given), _described((logits, *state))
    if found != wanted:
        raise ModelError(f"{name}.step gives {found} for tokens (2, {time}); return logits and next state, {wanted}")


def _described(tensors: object) -> str:
    """What a `step` returned: type and shape of each tensor."""
    if not isinstance(tensors, tuple) or not all(isinstance(tensor, Tensor) for tensor in tensors):
        return f"no tuple of tensors but {type(tensors).__name__}"
    return ", ".join(f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}" for tensor in tensors)


def where(error: BaseException, path: Path) -> str:
    """File, line and message (its first paragraph) of the innermost frame in the user's file."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""
    return f"{place}{type(error).__name__}: {' '.join(str(error).partition(_PARAGRAPH)[0].split())}"
