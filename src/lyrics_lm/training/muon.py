"""Muon: momentum made orthogonal, for matrices; those of one shape take their step together."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, tuned for slope at zero
_ITERATIONS = 3  # enough for a direction: what is left of the spectrum's spread costs less than two more
_MATCH = 0.2  # root mean square of an update, as AdamW's is


class Muon(torch.optim.Optimizer):
    """Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024: Nesterov momentum, then
    Newton-Schulz iterations towards the nearest semi-orthogonal matrix; with decoupled weight decay, and scaled
    so that an update is as large as AdamW's (Liu et al., arXiv 2502.16982, section 2.2).

    `torch.optim.Muon` does the same one matrix after the other, which for small ones is mostly the cost of calling.
    """

    def __init__(self, weights: Iterable[Tensor], *, lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # of no closure
        """One step for every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for weights in alike.values():
                self._move(weights, group["lr"], group["momentum"], group["weight_decay"])

    def _move(self, weights: list[Tensor], rate: float, momentum: float, decay: float) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        kept = [self.state[weight].setdefault("momentum", torch.zeros_like(weight)) for weight in weights]
        torch._foreach_lerp_(kept, gradients, 1 - momentum)
        updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, kept, momentum)))
        rows, columns = weights[0].shape
        torch._foreach_mul_(weights, 1 - rate * decay)
        torch._foreach_add_(weights, updates.unbind(), alpha=-rate * _MATCH * max(rows, columns) ** 0.5)


def orthogonal(matrices: Tensor) -> Tensor:
    """Of each of the matrices (N, R, C), nearly U V^T where U S V^T is its singular value decomposition."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x: Tensor = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT
