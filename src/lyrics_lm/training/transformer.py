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
from torch.onnx import ops as onnx_ops

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
    # The slot that a single token is written to is one that it cannot see.
    in_place = True

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
        ring = (heads, context + 1, depth)
        names = [f"{kind}_{layer}" for layer in range(layers) for kind in ("keys", "values")]
        self.state = (*(StateSpec(name, ring, "float32") for name in names), StateSpec("position", (), "int64"))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of whole texts, each from its beginning."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)  # (T)
        visible = self._visible(positions, positions)
        rotation = self._rotation(positions)
        x = norm(self.embedding(tokens))  # (B, T, C)
        for block in self._layers:
            pair, value = block.project(x)
            query, key = rotate(pair, rotation).chunk(2, dim=1)
            x = block.mix(x, attend(query, key, value, visible))
        logits: Tensor = self.head(norm(x))
        return logits

    def step(self, tokens: Tensor, lengths: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Read `lengths` (B) more tokens of texts, given the keys and values of those before (B, H, W + 1, D).

        Each is a ring: position p stands in slot p % W, so that a new token overwrites the one that leaves
        the window, and nothing is moved. What is not to be kept goes to the slot W, which nobody sees.
        Rotation and attention are ONNX's own operators, each one node of the exported graph.
        """
        *rings, position = state
        time = torch.arange(tokens.shape[1], device=tokens.device)  # (T)
        slots = torch.arange(self.context + 1, device=tokens.device)  # (W + 1)
        new = position[:, None] + time  # (B, T); all else follows from it, so that `position` is read once
        latest = new[:, :1] - 1
        held = torch.where(slots < self.context, latest - (latest - slots) % self.context, -1)  # (B, W + 1)
        visible = self._visible(new, torch.cat([held, new], dim=1))[:, None]  # (B, 1, T, W + 1 + T)
        kept = (time < lengths[:, None]) & (time >= lengths[:, None] - self.context)
        target = places(torch.where(kept, new % self.context, self.context), rings[0].shape[1])
        cosine, sine = self._rotation(new)
        following = []
        x = norm(self.embedding(tokens))
        for block, keys, values in zip(self._layers, rings[::2], rings[1::2], strict=True):
            pair, value = block.project(x)
            query, key = onnx_ops.rotary_embedding(pair, cosine, sine).chunk(2, dim=1)
            every_key, every_value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
            scale = query.shape[-1] ** -0.5
            gathered, *_ = onnx_ops.attention(query, every_key, every_value, attn_mask=visible, scale=scale)
            x = block.mix(x, gathered)
            following += [keys.index_put(target, key), values.index_put(target, value)]
        logits: Tensor = self.head(norm(x))
        return logits, *following, new[:, 0] + lengths

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

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, 2 H, T, D), still to be turned to their positions, and values (B, H, T, D)."""
        batch, time, width = x.shape
        qkv = self.qkv(norm(x)).view(batch, time, 3 * self.heads, width // self.heads).transpose(1, 2)
        return norm(qkv[:, : 2 * self.heads]), qkv[:, 2 * self.heads :]

    def mix(self, x: Tensor, gathered: Tensor) -> Tensor:
        """Take in what every position gathered (B, H, T, D), then think for itself."""
        x = x + self.out(gathered.transpose(1, 2).reshape(x.shape))
        thought: Tensor = self.down(F.relu(self.up(norm(x))).square())
        return x + thought


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Scaled dot-product attention (B, H, T, D) over the positions visible (Q, K) to each. Written out:
    torch's own is slower at these sizes, forward and back."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    gathered: Tensor = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1) @ value
    return gathered


def norm(x: Tensor) -> Tensor:
    """Root mean square norm without parameters (Zhang and Sennrich, arXiv 1910.07467)."""
    width = x.shape[-1]
    return F.rms_norm(x, (width,), torch.ones(width, dtype=x.dtype, device=x.device), eps=1e-6)


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the halves of x (B, H, T, D) against each other by the angles of its positions."""
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def places(slots: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Where in a ring (B, H, S, D) the slots (B, T) are: one index (B, H, T) for each of its first axes."""
    shape = (slots.shape[0], heads, slots.shape[1])
    batch = torch.arange(slots.shape[0], device=slots.device)[:, None, None]
    head = torch.arange(heads, device=slots.device)[:, None]
    return batch.expand(shape), head.expand(shape), slots[:, None].expand(shape)
