"""One training over two processes: real ones, started by PyTorch's own launcher, talking over gloo."""

import csv

import numpy as np
import pytest
from safetensors.torch import load_file

from lyrics_lm.errors import ModelError, ParamsError
from lyrics_lm.params import ModelParams, TrainingParams, _validate
from lyrics_lm.training.train import train

VOCAB, STEPS = 13, 150
MODEL = ModelParams(context=16, layers=1, width=16, heads=2, ngrams=31)
MORTAL = """
import os, pathlib, signal, torch
class Net(torch.nn.Embedding):
    def __init__(self, vocab_size, context):
        super().__init__(vocab_size, vocab_size)
        self.steps, self.doom = 0, pathlib.Path(__file__).parents[1] / "doom"
    def forward(self, tokens):
        self.steps += self.training
        if self.steps == 15 and os.environ["RANK"] == "1" and self.doom.exists():
            self.doom.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(tokens)
"""
NAN = """
import torch
class Net(torch.nn.Embedding):
    def __init__(self, vocab_size, context):
        super().__init__(vocab_size, vocab_size)
    def forward(self, tokens):
        return super().forward(tokens) * float("nan")
"""


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """Token ids as `prepare` leaves them: mapped from files."""
    folder = tmp_path_factory.mktemp("tokens")
    ids = np.cumsum(np.random.default_rng(0).integers(3, size=5000)) % VOCAB
    for name in ("train", "validation"):
        np.save(folder / f"{name}.npy", ids.astype(np.uint16))
    return [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train", "validation")]


def run(folder, tokens, model=MODEL, on_progress=lambda _: None, **params):
    training = TrainingParams(**{"steps": STEPS, "batch_size": 8, "checkpoint_every": 10, "device": "cpu", **params})
    facts = {"vocab_size": VOCAB, "chars_per_token": 1.0, "root": folder, "key": "k"}
    places = {"checkpoint": folder / "checkpoint", "output": folder / "model"}
    train(*tokens, model=model, training=training, on_progress=on_progress, **facts, **places)
    with open(folder / "model" / "losses.csv") as file:
        losses = [float(row["train"]) for row in csv.DictReader(file)]
    return np.array(losses), load_file(folder / "model" / "model.safetensors")


def run_own(folder, network, tokens, **params):
    """Train a network of the user's own in two processes."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "models" / "own.py").write_text(network)
    return run(folder, tokens, model=ModelParams(name="models/own.py:Net"), processes=2, **params)


@pytest.fixture(scope="module")
def together(tmp_path_factory, tokens):
    """Losses, weights and progress of a training in two processes."""
    told = []
    return *run(tmp_path_factory.mktemp("two"), tokens, processes=2, on_progress=told.append), told


def test_two_processes_learn_what_one_does(tmp_path, tokens, together):
    """The same batches, so the same losses and weights but for rounding; and progress is told as by one."""
    losses, weights, told = together
    alone, others = run(tmp_path, tokens)
    assert alone[-1] < alone[0] - 0.5
    assert np.abs(alone - losses).max() < 2e-3
    for name, weight in weights.items():
        assert float((weight - others[name]).abs().max()) < 2e-2, name
    assert told[-1].step == STEPS


def test_a_killed_process_is_started_again(tmp_path, tokens):
    """kill -9 of one, between two checkpoints: all go on from the last, to the same bits as without the kill."""
    losses, weights = run_own(tmp_path / "alive", MORTAL, tokens, steps=30)
    doom = tmp_path / "killed" / "doom"
    doom.parent.mkdir()
    doom.touch()
    others, after = run_own(tmp_path / "killed", MORTAL, tokens, steps=30)
    assert not doom.exists()
    assert (losses == others).all()
    assert all((weight == after[name]).all() for name, weight in weights.items())


def test_what_is_wrong_with_a_model_is_told_once(tmp_path, tokens):
    """A loss that is no number: the line that one process gives, and no second try."""
    with pytest.raises(ModelError, match="the loss is nan at step 1; lower training.learning_rate"):
        run_own(tmp_path, NAN, tokens)


def test_a_batch_that_cannot_be_shared_out_is_refused():
    """8 windows for 3 processes."""
    with pytest.raises(ParamsError, match="it should divide training.batch_size"):
        _validate({"training": {"batch_size": 8, "processes": 3}}, "params.yaml")
