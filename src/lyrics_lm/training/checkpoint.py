"""A training cut off at any step goes on from its last checkpoint. No pickle: safetensors and JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from lyrics_lm import durable
from lyrics_lm.training.result import Loss

_TENSORS = "tensors.safetensors"
_FACTS = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stood after `step` steps. The learning rate follows from the step.

    `optimisers` holds, by place, the states of those that have any: one whose weights are all frozen has none.
    """

    step: int
    losses: tuple[Loss, ...]
    model: dict[str, torch.Tensor]
    optimisers: dict[int, dict[int, dict[str, torch.Tensor]]]


def save(folder: Path, key: str, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder` by this one; `key` says what is being trained."""
    tensors = {f"model/{name}": tensor for name, tensor in checkpoint.model.items()}
    for place, states in checkpoint.optimisers.items():
        for parameter, state in states.items():
            tensors.update({f"optimiser/{place}/{parameter}/{name}": tensor for name, tensor in state.items()})
    facts = {"key": key, "step": checkpoint.step, "losses": [asdict(loss) for loss in checkpoint.losses]}
    with durable.directory(folder) as draft:
        save_tensors(tensors, draft / _TENSORS)
        (draft / _FACTS).write_text(json.dumps(facts))


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors by name; those that share memory, as tied weights do, are each written whole."""
    data = to_bytes({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
    path.write_bytes(data)  # so that a full disk is met by Python's own write, which says so


def load(folder: Path, key: str) -> Checkpoint | None:
    """The checkpoint of what `key` names; None when there is none, one of something else, or a damaged
    one: to begin anew takes longer, and comes to the same."""
    try:
        return _read(folder, key)
    except (FileNotFoundError, ValueError, SafetensorError):  # broken JSON or UTF-8 is a ValueError
        return None
    except (KeyError, TypeError, RecursionError):  # JSON of another kind
        return None


def _read(folder: Path, key: str) -> Checkpoint | None:
    facts = json.loads((folder / _FACTS).read_bytes())
    if facts["key"] != key:
        return None
    model: dict[str, torch.Tensor] = {}
    optimisers: dict[int, dict[int, dict[str, Any]]] = {}
    for name, tensor in load_file(folder / _TENSORS).items():
        kind, _, rest = name.partition("/")
        if kind == "model":
            model[rest] = tensor
        else:
            place, parameter, field = rest.split("/")
            optimisers.setdefault(int(place), {}).setdefault(int(parameter), {})[field] = tensor
    losses = tuple(Loss(**loss) for loss in facts["losses"])
    return Checkpoint(facts["step"], losses, model, optimisers)
