"""This process among those that train together: its share of a batch, and what all of them average."""

import numpy as np
import numpy.typing as npt
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class Peers:
    """Alone, nothing is shared out and nothing averaged."""

    def __init__(self) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if together else 0
        self.count = distributed.get_world_size() if together else 1

    def share(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's part of a batch."""
        return starts[self.rank :: self.count]

    def averaging(self, model: nn.Module) -> nn.Module:
        """The model, with gradients that are averaged over all processes."""
        return DistributedDataParallel(model) if self.count > 1 else model

    def mean(self, value: Tensor) -> Tensor:
        """Of a number of which each process has its own."""
        if self.count == 1:
            return value
        value = value.clone()
        distributed.all_reduce(value)
        return value / self.count
