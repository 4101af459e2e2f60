"""A training cut off at any step goes on from its last checkpoint. No pickle: safetensors and JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lyrics_lm import durable
from lyrics_lm.training.result import Loss

_TENSORS = "tensors.safetensors"
_FACTS = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stood after `step` steps. The learning rate follows from the step."""

    step: int
    losses: tuple[Loss, ...]
    model: dict[str, torch.Tensor]
    optimisers: tuple[dict[int, dict[str, torch.Tensor]], ...]


def save(folder: Path, key: str, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder` by this one; `key` says what is being trained."""
    tensors = {f"model/{name}": tensor for name, tensor in checkpoint.model.items()}
    for place, states in enumerate(checkpoint.optimisers):
        for parameter, state in states.items():
            tensors.update({f"optimiser/{place}/{parameter}/{name}": tensor for name, tensor in state.items()})
    facts = {"key": key, "step": checkpoint.step, "losses": [asdict(loss) for loss in checkpoint.losses]}
    with durable.directory(folder) as draft:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, draft / _TENSORS)
        (draft / _FACTS).write_text(json.dumps(facts))


def load(folder: Path, key: str) -> Checkpoint | None:
    """The checkpoint of what `key` names; None when there is none, or one of something else."""
    if not (folder / _FACTS).is_file():
        return None
    facts = json.loads((folder / _FACTS).read_text())
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
    return Checkpoint(facts["step"], losses, model, tuple(optimisers[place] for place in sorted(optimisers)))
