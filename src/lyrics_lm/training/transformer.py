"""The default network: a small decoder-only transformer that reads a window of its past, and looks its last few
tokens up in hashed tables, so that what counting n-grams would tell costs it no multiplication.

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
_LONGEST = 5  # tokens of the longest n-gram looked up; the shortest has 2
_NGRAM_WIDTH = 8  # numbers that a table tells of one
_MULTIPLIER = 1009  # of the hash, a polynomial in the tokens


class Transformer(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out. C = width, H = heads, D = C / H, W = context, N = n-gram lengths.

    Pre-norm (Xiong et al., arXiv 2002.04745), rotary positions (Su et al., arXiv 2104.09864), squared
    ReLU (So et al., arXiv 2109.08668, section 4.1), normalised queries and keys (Henry et al.,
    arXiv 2010.04245), hashed n-gram embeddings (Huang et al., "Over-Tokenized Transformer", arXiv 2501.16975,
    section 3.2) of `ngrams` rows for each length, token shift (Peng et al., "RWKV", arXiv 2305.13048,
    section 3.1.1). Norms have no parameters; projections into the residual stream start at zero.

    Raises `ValueError` when the width is no even multiple of the heads.
    """

    frequencies: Tensor
    # The slot that a single token is written to is one that it cannot see.
    in_place = True

    def __init__(self, vocab_size: int, context: int, layers: int, width: int, heads: int, ngrams: int) -> None:
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"width {width} is not a multiple of twice the {heads} heads")
        self.context = context
        self.embedding = nn.Embedding(vocab_size, width)
        self.shift = nn.Parameter(torch.zeros(width))
        self.lookup = Lookup(ngrams, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.zeros_(self.head.weight)
        depth = width // heads
        frequencies = _ROTARY_BASE ** (-torch.arange(0, depth, 2, dtype=torch.float32) / depth)
        self.register_buffer("frequencies", frequencies, persistent=False)
        ring = (heads, context + 1, depth)
        names = [f"{kind}_{layer}" for layer in range(layers) for kind in ("keys", "values")]
        rings = (StateSpec(name, ring, "float32") for name in names)
        self.state = (*rings, StateSpec("history", (_LONGEST - 1,), "int64"), StateSpec("position", (), "int64"))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of whole texts, each from its beginning."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)  # (T)
        mask = torch.where(self._visible(positions, positions), 0.0, float("-inf"))  # (T, T)
        rotation = torch.polar(*self._polar(positions))  # (T, D / 2)
        x = self._embed(F.pad(tokens, (_LONGEST - 1, 0)))  # (B, T, C)
        for block in self._layers:
            pair, value = block.project(x)
            query, key = rotate(pair, rotation).chunk(2, dim=1)
            x = block.mix(x, attend(query, key, value, mask))
        logits: Tensor = self.head(norm(x))
        return logits

    def step(self, tokens: Tensor, lengths: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Read `lengths` (B) more tokens of texts, given the keys and values of those before (B, H, W + 1, D).

        Each is a ring: position p stands in slot p % W, so that a new token overwrites the one that leaves
        the window, and nothing is moved. What is not to be kept goes to the slot W, which nobody sees.
        Rotation and attention are ONNX's own operators, each one node of the exported graph.
        """
        *rings, history, position = state
        read = torch.cat([history, tokens], dim=1)
        last = torch.arange(_LONGEST - 1, device=tokens.device) + lengths[:, None]
        time = torch.arange(tokens.shape[1], device=tokens.device)  # (T)
        slots = torch.arange(self.context + 1, device=tokens.device)  # (W + 1)
        new = position[:, None] + time  # (B, T); all else follows from it, so that `position` is read once
        latest = new[:, :1] - 1
        held = torch.where(slots < self.context, latest - (latest - slots) % self.context, -1)  # (B, W + 1)
        visible = self._visible(new, torch.cat([held, new], dim=1))[:, None]  # (B, 1, T, W + 1 + T)
        kept = (time < lengths[:, None]) & (time >= lengths[:, None] - self.context)
        target = places(torch.where(kept, new % self.context, self.context), rings[0].shape[1])
        angles = new[..., None].to(torch.float32) * self.frequencies  # (B, T, D / 2)
        cosine, sine = angles.cos(), angles.sin()
        following = []
        x = self._embed(read)
        for block, keys, values in zip(self._layers, rings[::2], rings[1::2], strict=True):
            pair, value = block.project(x)
            query, key = onnx_ops.rotary_embedding(pair, cosine, sine, interleaved=True).chunk(2, dim=1)
            every_key, every_value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
            scale = query.shape[-1] ** -0.5
            gathered, *_ = onnx_ops.attention(query, every_key, every_value, attn_mask=visible, scale=scale)
            x = block.mix(x, gathered)
            following += [keys.index_put(target, key), values.index_put(target, value)]
        logits: Tensor = self.head(norm(x))
        return logits, *following, read.gather(1, last), new[:, 0] + lengths

    @property
    def _layers(self) -> Sequence["Block"]:
        return cast("Sequence[Block]", self.blocks)

    def _embed(self, read: Tensor) -> Tensor:
        """The stream (B, T, C) at the start, for tokens behind the 4 that came before them (B, 4 + T)."""
        time = torch.arange(read.shape[1] - _LONGEST + 1, device=read.device)
        ages = torch.arange(_LONGEST, device=read.device)
        places = (time[:, None] + (_LONGEST - 1) - ages).flatten()
        aged = read.index_select(1, places).view(read.shape[0], -1, _LONGEST)  # (B, T, 5), the latest first
        now, before = self.embedding(aged[..., 0]), self.embedding(aged[..., 1])
        return norm(now + self.shift * before + self.lookup(aged))

    def _visible(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which key positions (..., K) each query position (..., Q) may look at: (..., Q, K)."""
        distance = queries[..., :, None] - keys[..., None, :]
        return (distance >= 0) & (distance < self.context) & (keys[..., None, :] >= 0)

    def _polar(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The turns (T, D / 2) at these positions: lengths, all 1, and angles."""
        angles = positions[:, None].to(torch.float32) * self.frequencies
        return torch.ones_like(angles), angles


class Lookup(nn.Module):
    """What tables tell of the last 2, 3, ... tokens. N-grams that hash to one row share it."""

    offsets: Tensor
    hashes: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        lengths = range(2, _LONGEST + 1)
        self.rows = rows
        self.table = nn.Embedding(rows * len(lengths), _NGRAM_WIDTH)
        self.mix = nn.Linear(_NGRAM_WIDTH * len(lengths), width, bias=False)
        nn.init.zeros_(self.table.weight)
        powers = [[_MULTIPLIER ** (n - 1 - age) if age < n else 0 for n in lengths] for age in range(_LONGEST)]
        self.register_buffer("hashes", torch.tensor(powers), persistent=False)  # (ages of a token, N)
        self.register_buffer("offsets", torch.arange(len(lengths)) * rows, persistent=False)

    def forward(self, aged: Tensor) -> Tensor:
        """(B, T, C) for each token and the 4 before it (B, T, 5), the latest first."""
        rows = (aged[..., None] * self.hashes).sum(dim=-2) % self.rows + self.offsets  # (B, T, N)
        told: Tensor = self.mix(self.table(rows).flatten(2))
        return told


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


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Scaled dot-product attention (B, H, T, D) with a mask (Q, K) to add to the scores. Written out: torch's own
    is slower at these sizes, forward and back."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    gathered: Tensor = (scores + mask).softmax(dim=-1) @ value
    return gathered


def norm(x: Tensor) -> Tensor:
    """Root mean square norm without parameters (Zhang and Sennrich, arXiv 1910.07467)."""
    width = x.shape[-1]
    ones = x.new_ones(width) if torch.compiler.is_exporting() else None  # with them it is one node of the graph
    return F.rms_norm(x, (width,), ones, eps=1e-6)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair of neighbours in x (B, H, T, D), as a complex number, by that (T, D / 2) of its position."""
    turned = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2)) * rotation
    return torch.view_as_real(turned).flatten(-2)


def places(slots: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Where in a ring (B, H, S, D) the slots (B, T) are: one index (B, H, T) for each of its first axes."""
    shape = (slots.shape[0], heads, slots.shape[1])
    batch = torch.arange(slots.shape[0], device=slots.device)[:, None, None]
    head = torch.arange(heads, device=slots.device)[:, None]
    return batch.expand(shape), head.expand(shape), slots[:, None].expand(shape)
