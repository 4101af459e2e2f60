"""Claim: a machine of two cores writes tens of thousands of tokens a second, for one reader or for many.

Ours is what serves: the exported graph in ONNX Runtime, one thread, and the running batch with its sampling
and spelling, for the default transformer of untrained weights (what it says does not change how fast it is).
Baselines, all of one thread and measured in the same run:

- `lecture`: the character model that tutorials build (window 32, width 64, 4 heads, 4 layers, 209 thousand
  parameters) in torch, and its `generate`: the whole window is read again for every token.
- `Hugging Face`: `generate(use_cache=True)` of a Llama of our shape, drawn at temperature 1.
- `lecture bigram`: `nn.Embedding(V, V)` and the same loop, against the bigram that we count.

    python benchmarks/generation.py [--seconds 3]
"""

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn

from lyrics_lm import bundle
from lyrics_lm.bundle import MODEL, TOKENIZER, Bundle
from lyrics_lm.evaluation.conformance import known_answer
from lyrics_lm.inference.engine import Engine
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.stream import Sampling
from lyrics_lm.params import ModelParams
from lyrics_lm.records import KnownAnswer, Manifest, Metrics, StateSpec
from lyrics_lm.training import bigram
from lyrics_lm.training.export import export
from lyrics_lm.training.transformer import Transformer

CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()[]-&*/+"
V = len(CHARACTERS) + 1
WINDOW, WIDTH, HEADS, LAYERS = 32, 64, 4, 4
TARGETS = {  # ratios that we set out to reach
    ("lecture", 1): 40,
    ("lecture", 32): 20,
    ("lecture", 128): 17,
    ("Hugging Face", 1): 15,
    ("Hugging Face", 32): 8,
    ("lecture bigram", 1): 100,
    ("lecture bigram", 32): 25,
}
START = {
    "torch and the lecture's model": "from benchmarks.generation import Lecture, lecture; lecture(Lecture())(1, 1)",
    "ours": "import sys; from pathlib import Path; from lyrics_lm import bundle\n"
    "from lyrics_lm.inference.generator import Generator; from lyrics_lm.inference.stream import Sampling\n"
    "next(Generator(bundle.read(Path(sys.argv[1]))).generate([1], Sampling(max_tokens=1)))",
}


class Head(nn.Module):
    """One head of causal attention, as the lecture writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(WIDTH, WIDTH // HEADS, bias=False) for _ in range(3))
        self.register_buffer("past", torch.tril(torch.ones(WINDOW, WINDOW)))

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[1]
        weights = self.query(x) @ self.key(x).transpose(-2, -1) * WIDTH**-0.5
        weights = weights.masked_fill(self.past[:time, :time] == 0, float("-inf")).softmax(dim=-1)
        return weights @ self.value(x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head() for _ in range(HEADS))
        self.project = nn.Linear(WIDTH, WIDTH)
        self.think = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norms[0](x)
        x = x + self.project(torch.cat([head(normed) for head in self.heads], dim=-1))
        return x + self.think(self.norms[1](x))


class Lecture(nn.Module):
    """The tutorials' transformer: learned positions, heads in a list, no cache."""

    def __init__(self, vocab_size: int = V) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, WIDTH), nn.Embedding(WINDOW, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def lecture(model: nn.Module) -> Callable[[int, int], None]:
    """Its `generate`: so many streams, so many tokens each."""

    @torch.no_grad()
    def write(streams: int, count: int) -> None:
        tokens = torch.zeros(streams, 1, dtype=torch.int64)
        for _ in range(count):
            chances = F.softmax(model(tokens[:, -WINDOW:])[:, -1], dim=-1)
            tokens = torch.cat([tokens, torch.multinomial(chances, num_samples=1)], dim=1)

    return write


def hugging_face() -> Callable[[int, int], None] | None:
    """A Llama of our shape; None where the library is not installed."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return None
    size = ModelParams()
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=size.width,
        intermediate_size=4 * size.width * 2 // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=4096,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()

    @torch.inference_mode()
    def write(streams: int, count: int) -> None:
        start = torch.ones(streams, 1, dtype=torch.int64)
        mask = torch.ones_like(start)
        model.generate(start, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=count, use_cache=True)

    return write


def ours(generator: Generator) -> Callable[[int, int], None]:
    def write(streams: int, count: int) -> None:
        batch = generator.batch()
        written = [generator.stream([1], Sampling(max_tokens=count, seed=number)) for number in range(streams)]
        for stream in written:
            batch.add(stream)
        while len(batch):
            batch.turn()
        assert all(len(stream.take().text) == count for stream in written)

    return write


def transformer(folder: Path) -> Bundle:
    size = ModelParams()
    model = Transformer(V, size.context, size.layers, size.width, size.heads, size.ngrams)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    export(model, size.context, V, folder / MODEL)
    return bundled(folder, "transformer", size.context, model.state)


def counted(folder: Path) -> Bundle:
    text = np.random.default_rng(0).integers(1, V, size=100_000)
    bigram.export(bigram.count(text, V), folder / MODEL)
    return bundled(folder, "bigram", bigram.CONTEXT, ())


def bundled(folder: Path, name: str, context: int, state: tuple[StateSpec, ...]) -> Bundle:
    vocabulary = {token: place for place, token in enumerate(["<unk>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106  # a token of text
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / TOKENIZER))
    manifest = Manifest(1, name, name, V, context, state, {}, Metrics(0, 0, ""), KnownAnswer((), ()), {})
    known = known_answer(Engine(Bundle(folder, manifest, "")), [1, 2, 3])
    sources = {file: folder / file for file in (MODEL, TOKENIZER)}
    return bundle.write(folder / "bundle", sources, dataclasses.replace(manifest, known_answer=known))


def tokens_per_second(write: Callable[[int, int], None], streams: int, seconds: float) -> float:
    """The best of three runs, each about a third of the time."""
    count, spent = 8, 0.0
    while spent < seconds / 12:  # find a length that takes long enough to be timed
        count *= 2
        began = time.perf_counter()
        write(streams, count)
        spent = time.perf_counter() - began
    count = max(8, int(count * seconds / 3 / spent))
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        write(streams, count)
        best = max(best, streams * count / (time.perf_counter() - began))
    return best


def show(name: str, streams: int, rate: float, baseline: float) -> None:
    target = TARGETS.get((name, streams))
    asked = f" (target {target}x)" if target else ""
    print(f"{streams:4} streams {rate:11,.0f} tokens/s  {name} {baseline:9,.0f}  {rate / baseline:6.1f}x{asked}")


def process_start(place: Path) -> None:
    """Seconds from the start of a process to its first token, best of five."""
    best = {}
    for name, code in START.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            root = Path(__file__).parents[1]
            subprocess.run([sys.executable, "-c", code, str(place)], check=True, cwd=root)
            times.append(time.perf_counter() - began)
        best[name] = min(times)
        print(f"process start to first token: {name} {best[name]:.2f} s")
    theirs, mine = best.values()
    print(f"started in 1/{theirs / mine:.1f} of the time (target 1/9)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="time for each figure")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        made = transformer(Path(first))
        write = ours(Generator(made))
        rates = {streams: tokens_per_second(write, streams, seconds) for streams in (1, 32, 128)}
        theirs = {"lecture": lecture(Lecture()), "Hugging Face": hugging_face()}
        for name, other in theirs.items():
            for streams, rate in rates.items():
                if other is None:
                    print(f"{name}: not measured; pip install '.[bench]' first")
                    break
                show(name, streams, rate, tokens_per_second(other, streams, seconds))
        table, embedding = ours(Generator(counted(Path(second)))), lecture(nn.Embedding(V, V))
        for streams in (1, 32):
            rate, baseline = (tokens_per_second(each, streams, seconds) for each in (table, embedding))
            show("lecture bigram", streams, rate, baseline)
        process_start(made.path)


if __name__ == "__main__":
    main()
