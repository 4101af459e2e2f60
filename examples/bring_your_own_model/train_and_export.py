"""A character GRU in plain torch, and the bundle it hands over. Imports nothing of lyrics_lm.

Run it: python train_and_export.py SONGS.csv OUTDIR [--steps 400]
"""

import argparse
import csv
import hashlib
import json
import math
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional

WINDOW, BATCH, HIDDEN = 64, 32, 128
BETWEEN_SONGS = "\n\n\n"  # the service and the scores put this before a song: train on it
UNKNOWN = "<unk>"  # stands for every character not met in training


class CharGRU(nn.Module):
    """(B, T) characters and a hidden state (B, 1, H) in; logits (B, T, V) and the next state out."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, vocab_size)

    def forward(self, tokens: Tensor, lengths: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        seen, _ = self.gru(self.embedding(tokens), hidden.transpose(0, 1))
        # The state after the last valid character of each row, so that padding leaves no trace.
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, HIDDEN)
        return self.head(seen), seen.gather(1, last)


def read_songs(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        column = next((name for name in ("text", "lyrics") if name in (rows.fieldnames or [])), None)
        if column is None:
            sys.exit(f"{path} has columns {rows.fieldnames}; name the one that holds the songs 'text'")
        songs = [row[column].replace("\r\n", "\n").strip() for row in rows if row[column]]
    if len(songs) < 2:
        sys.exit(f"{path} holds {len(songs)} songs; give at least 2, one to train on and one to hold out")
    random.Random(0).shuffle(songs)
    return songs


def make_tokenizer(songs: list[str]) -> Tokenizer:
    characters = sorted({character for song in songs for character in song.lower() + BETWEEN_SONGS})
    vocabulary = {token: number for number, token in enumerate([UNKNOWN, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def encode(tokenizer: Tokenizer, songs: list[str]) -> Tensor:
    text = BETWEEN_SONGS + "".join(song + BETWEEN_SONGS for song in songs)
    return torch.tensor(tokenizer.encode(text).ids)


def loss_of(model: CharGRU, windows: Tensor) -> Tensor:
    """Mean nats per character of windows (B, T + 1)."""
    inputs, targets = windows[:, :-1], windows[:, 1:]
    logits, _ = model(inputs, torch.full((len(inputs),), inputs.shape[1]), torch.zeros(len(inputs), 1, HIDDEN))
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train(model: CharGRU, tokens: Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=max(steps, 2))
    for step in range(steps):
        starts = torch.randint(max(1, len(tokens) - WINDOW), (BATCH,))
        loss = loss_of(model, torch.stack([tokens[start : start + WINDOW + 1] for start in starts]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step + 1}/{steps}: {loss.item() / math.log(2):.2f} bits per character", flush=True)


# ---- The export: from here on is all that the contract asks of a model. ----


def export(model: CharGRU, tokenizer: Tokenizer, nats: float, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    example = (torch.zeros(2, 5, dtype=torch.long), torch.tensor([5, 3]), torch.zeros(2, 1, HIDDEN))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter, which keeps a GRU one node with free axes
        torch.onnx.export(
            model.eval(),
            example,
            str(folder / "model.onnx"),
            input_names=["tokens", "lengths", "hidden"],
            output_names=["logits", "next_hidden"],
            dynamic_axes={
                "tokens": {0: "B", 1: "T"},
                "lengths": {0: "B"},
                "hidden": {0: "B"},
                "logits": {0: "B", 1: "T"},
                "next_hidden": {0: "B"},
            },
            dynamo=False,
        )
    prompt = tokenizer.encode(BETWEEN_SONGS + "love is").ids
    contract = {
        "format": 1,
        "name": "char-gru",
        "architecture": "gru",
        "vocab_size": tokenizer.get_vocab_size(),
        "context": WINDOW,
        "state": [{"name": "hidden", "shape": [1, HIDDEN], "dtype": "float32"}],
        "provenance": {"git_commit": None, "made_by": Path(__file__).name, "torch": torch.__version__},
        "metrics": {"bits_per_char": nats / math.log(2), "perplexity": math.exp(nats), "split": "held-out tenth"},
        "known_answer": {"tokens": prompt, "logits": ask(folder / "model.onnx", prompt)},
        "files": {name: sha256(folder / name) for name in ("model.onnx", "tokenizer.json")},
    }
    (folder / "contract.json").write_text(json.dumps(contract, indent=2) + "\n")


def ask(path: Path, prompt: list[int]) -> list[float]:
    """The logits (V) after the last token of the prompt, as ONNX Runtime gives them."""
    tokens, hidden = np.array([prompt], dtype=np.int64), np.zeros((1, 1, HIDDEN), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"tokens": tokens, "lengths": np.array([len(prompt)], dtype=np.int64), "hidden": hidden}
    logits, _ = session.run(None, feed)
    return logits[0, -1].tolist()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a character GRU on a CSV of songs and export it.")
    parser.add_argument("songs", type=Path)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    torch.manual_seed(0)
    songs = read_songs(args.songs)
    held_out = songs[: max(1, len(songs) // 10)]
    tokenizer = make_tokenizer(songs[len(held_out) :])
    model = CharGRU(tokenizer.get_vocab_size())
    train(model, encode(tokenizer, songs[len(held_out) :]), args.steps)
    with torch.no_grad():
        nats = loss_of(model, encode(tokenizer, held_out)[None]).item()
    export(model, tokenizer, nats, args.outdir)
    print(f"{args.outdir}: {nats / math.log(2):.2f} bits per character on {len(held_out)} held-out songs")
