"""An example of a network of your own: set `model.name: models/conv.py:Conv` in params.yaml and commit.

Any torch module will do: it is made with `vocab_size`, `context` and what stands under `model.args`,
takes token ids (batch, time) and gives logits (batch, time, vocab_size), where a position must not
look at later ones. See the documentation for models that carry state from token to token.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Module):
    """Gated causal convolutions, each reaching further back than the one before."""

    def __init__(self, vocab_size: int, context: int, width: int = 64, layers: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.convs = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**layer) for layer in range(layers))
        self.head = nn.Linear(width, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(1, 2)  # (B, C, T)
        for layer, conv in enumerate(self.convs):
            past = F.pad(x, (2**layer, 0))  # nothing of the future
            value, gate = conv(past).chunk(2, dim=1)
            x = x + torch.tanh(value) * torch.sigmoid(gate)
        logits: Tensor = self.head(x.transpose(1, 2))
        return logits
