"""The default network: a small decoder-only transformer that reads a window of its past.

Attention reaches `context` tokens back and no further (sliding window; Beltagy et al., "Longformer",
arXiv 2004.05150, section 3.1), so that a key/value cache of that size makes `step` exactly what
`forward` is, however long the text.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyrics_lm.records import StateSpec

_ROTARY_BASE = 10_000.0


class Transformer(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out. C = width, H = heads, D = C / H, W = context.

    Pre-norm (Xiong et al., arXiv 2002.04745), rotary positions (Su et al., arXiv 2104.09864), squared
    ReLU (So et al., arXiv 2109.08668, section 4.1), normalised queries and keys (Henry et al.,
    arXiv 2010.04245). Norms have no parameters; projections into the residual stream start at zero.

    Raises `ValueError` when the width is no even multiple of the heads.
    """

    frequencies: Tensor

    def __init__(self, vocab_size: int, context: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} is not a multiple of twice the {heads} heads")
        self.context = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.zeros_(self.head.weight)
        depth = width // heads
        frequencies = _ROTARY_BASE ** (-torch.arange(0, depth, 2, dtype=torch.float32) / depth)
        self.register_buffer("frequencies", frequencies, persistent=False)
        cache = (layers, heads, context, depth)
        self.state = (
            StateSpec("keys", cache, "float32"),
            StateSpec("values", cache, "float32"),
            StateSpec("position", (), "int64"),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of whole texts, each from its beginning."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)  # (T)
        visible = self._visible(positions, positions)
        rotation = self._rotation(positions)
        x = norm(self.embedding(tokens))  # (B, T, C)
        for block in self._layers:
            query, key, value = block.project(x, rotation)
            x = block.mix(x, query, key, value, visible)
        logits: Tensor = self.head(norm(x))
        return logits

    def step(
        self, tokens: Tensor, lengths: Tensor, keys: Tensor, values: Tensor, position: Tensor
    ) -> tuple[Tensor, ...]:
        """Read `lengths` (B) more tokens of texts of which the last W are in the cache (B, L, H, W, D),
        the most recent at its end."""
        new = position[:, None] + torch.arange(tokens.shape[1], device=tokens.device)  # (B, T)
        cached = position[:, None] + torch.arange(-self.context, 0, device=tokens.device)  # (B, W)
        visible = self._visible(new, torch.cat([cached, new], dim=1))[:, None]  # (B, 1, T, W + T)
        rotation = tuple(part[:, None] for part in self._rotation(new))
        kept = lengths[:, None] + torch.arange(self.context, device=tokens.device)  # the last W valid ones
        next_keys, next_values = [], []
        x = norm(self.embedding(tokens))
        for layer, block in enumerate(self._layers):
            query, key, value = block.project(x, rotation)
            key = torch.cat([keys[:, layer], key], dim=2)  # (B, H, W + T, D)
            value = torch.cat([values[:, layer], value], dim=2)
            x = block.mix(x, query, key, value, visible)
            index = kept[:, None, :, None].expand(-1, key.shape[1], -1, key.shape[3])
            next_keys.append(key.gather(2, index))
            next_values.append(value.gather(2, index))
        logits = self.head(norm(x))
        return logits, torch.stack(next_keys, 1), torch.stack(next_values, 1), position + lengths

    @property
    def _layers(self) -> Sequence["Block"]:
        return cast("Sequence[Block]", self.blocks)

    def _visible(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which key positions (..., K) each query position (..., Q) may look at: (..., Q, K)."""
        distance = queries[..., :, None] - keys[..., None, :]
        return (distance >= 0) & (distance < self.context) & (keys[..., None, :] >= 0)

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (..., T, D / 2) of the angles at these positions."""
        angles = positions[..., None].to(torch.float32) * self.frequencies
        return angles.cos(), angles.sin()


class Block(nn.Module):
    """Attention, then a feed-forward layer, both added to the residual stream x (B, T, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def project(self, x: Tensor, rotation: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, D), the first two turned to their positions."""
        batch, time, width = x.shape
        qkv = self.qkv(norm(x)).view(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        return rotate(norm(query), rotation), rotate(norm(key), rotation), value

    def mix(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """Let every position gather from those visible to it, then think for itself."""
        batch, time, width = x.shape
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (B, H, Q, K)
        weights = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(batch, time, width))
        thought: Tensor = self.down(F.relu(self.up(norm(x))).square())
        return x + thought


def norm(x: Tensor) -> Tensor:
    """Root mean square norm without parameters (Zhang and Sennrich, arXiv 1910.07467)."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)


def rotate(x: Tensor, rotation: tuple[Tensor, ...]) -> Tensor:
    """Turn the halves of x (B, H, T, D) against each other by the angles of its positions."""
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
