import math
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lyrics_lm.errors import ModelError
from lyrics_lm.params import ModelParams, TrainingParams
from lyrics_lm.training import checkpoint
from lyrics_lm.training.loop import Loop, _schedule
from lyrics_lm.training.train import train
from lyrics_lm.training.transformer import Transformer

VOCAB, CONTEXT = 7, 6
TEXT = np.random.default_rng(0).integers(VOCAB, size=500).astype(np.uint16)
CYCLE = (np.arange(600) % VOCAB).astype(np.uint16)
OWN = """
import torch
class Net(torch.nn.Embedding):
    def __init__(self, vocab_size, context):
        super().__init__(vocab_size, vocab_size)
"""


class Killed(Exception):
    pass


class Dropping(nn.Module):
    """Rolls dice in training, and has a statistic that no optimiser sees."""

    def __init__(self, frozen=False):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 8)
        self.middle = nn.Linear(8, 8).requires_grad_(not frozen)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, VOCAB)

    def forward(self, tokens):
        x = torch.dropout(self.middle(self.embedding(tokens)), 0.3, self.training)
        return self.head(self.norm(x.transpose(1, 2)).transpose(1, 2))


NETWORKS = {
    "transformer": lambda: Transformer(VOCAB, CONTEXT, 2, 8, 2, 11),
    "dropout": Dropping,
    "frozen": lambda: Dropping(frozen=True),
    "no matrix": lambda: nn.Embedding(VOCAB, VOCAB),
}


def stop(progress):
    raise Killed


def kill(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def learn(folder, network="transformer", *, ends=None, at=0, key="k", text=TEXT, **changes):
    """The model and losses of a training in `folder`; at step `at`, `ends` is called instead of going on."""
    params = TrainingParams(**{"steps": 24, "batch_size": 4, "checkpoint_every": 5, "device": "cpu"} | changes)
    torch.manual_seed(params.seed)
    model = NETWORKS[network]()
    loop = Loop(model, "n", CONTEXT, params, folder, key)
    reached = []

    def follow(progress):
        reached.append((progress.step, loop._optimisers[0].param_groups[0]["lr"]))
        if progress.step == at:
            ends(progress)

    losses = loop.run(text, text[:100], 1.0, follow)
    return model.state_dict(), losses, reached


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("at", [3, 10, 14, 23])
def test_a_training_cut_off_and_resumed_is_as_never_cut_off(tmp_path, network, at):
    """Weights, statistics and losses are the same to the bit, wherever it stopped; steps done are not redone."""
    weights, losses, _ = learn(tmp_path / "whole", network)
    with pytest.raises(Killed):
        learn(tmp_path / "cut", network, ends=stop, at=at)
    again, noted, reached = learn(tmp_path / "cut", network)
    assert reached[0][0] == (at - 1) // 5 * 5 + 1  # it was cut off just before step `at` was kept
    assert same(weights, again)
    assert noted == losses


def test_a_training_that_was_killed_goes_on(tmp_path):
    """By SIGKILL, which nothing can catch; and twice."""
    spawn = multiprocessing.get_context("spawn")
    for at in (8, 17):
        process = spawn.Process(target=learn, args=(tmp_path / "cut",), kwargs={"ends": kill, "at": at})
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    weights, losses, reached = learn(tmp_path / "cut")
    assert reached[0][0] == 16
    whole, expected, _ = learn(tmp_path / "whole")
    assert same(weights, whole)
    assert losses == expected


def test_a_checkpoint_of_something_else_is_left_alone(tmp_path):
    """With another key it is not taken up, and training begins at the first step."""
    with pytest.raises(Killed):
        learn(tmp_path / "c", ends=stop, at=12, key="one", seed=5)
    weights, _, reached = learn(tmp_path / "c", key="other")
    assert reached[0][0] == 1
    assert same(weights, learn(tmp_path / "fresh")[0])


@pytest.mark.parametrize("file", ["checkpoint.json", "tensors.safetensors"])
@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"\xff" * len(data), None])
def test_a_damaged_checkpoint_counts_as_none(tmp_path, file, damage):
    """Cut short, overwritten or gone: training begins anew and comes to the same."""
    with pytest.raises(Killed):
        learn(tmp_path / "c", ends=stop, at=12)
    path = tmp_path / "c" / file
    data = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(data))
    assert checkpoint.load(tmp_path / "c", "k") is None
    weights, _, reached = learn(tmp_path / "c")
    assert reached[0][0] == 1
    assert same(weights, learn(tmp_path / "fresh")[0])


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    """It replaces the one before only when it is whole."""
    with pytest.raises(Killed):
        learn(tmp_path / "c", ends=stop, at=8)
    monkeypatch.setattr(checkpoint, "save_tensors", stop_writing)
    with pytest.raises(Killed):
        learn(tmp_path / "c")
    assert checkpoint.load(tmp_path / "c", "k").step == 5
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def stop_writing(tensors, path):
    path.write_bytes(b"half a")
    raise Killed


def test_weights_that_share_memory_are_each_written_whole(tmp_path):
    """Tied weights, and a view of a larger tensor."""
    tied = torch.arange(6.0).reshape(2, 3)
    checkpoint.save_tensors({"a": tied, "b": tied, "c": tied.T}, tmp_path / "w.safetensors")
    read = load_file(tmp_path / "w.safetensors")
    assert torch.equal(read["a"], tied)
    assert torch.equal(read["b"], tied)
    assert torch.equal(read["c"], tied.T)


@pytest.mark.parametrize("seeds", [(3, -3), (0, 1), (-1, -2)])
def test_the_seed_and_nothing_else_decides(tmp_path, seeds):
    """The same seed gives the same weights; another gives other weights to begin with, and other batches."""
    tried = enumerate((seeds[0], *seeds))
    one, again, other = (learn(tmp_path / str(place), seed=seed, steps=4)[0] for place, seed in tried)
    assert same(one, again)
    assert not same(one, other)
    params = [TrainingParams(seed=seed, device="cpu") for seed in seeds]
    loops = [Loop(NETWORKS["dropout"](), "n", CONTEXT, each, tmp_path / "b", "k") for each in params]
    assert not torch.equal(*(loop._batch(TEXT) for loop in loops))


def test_the_loss_falls_on_a_text_that_can_be_known(tmp_path):
    """A cycle is learnt in 120 steps, from log V to near nothing, on windows held out too."""
    _, losses, _ = learn(tmp_path / "c", text=CYCLE, steps=120)
    assert losses[0].train == pytest.approx(math.log(VOCAB), abs=1e-3)
    assert losses[-1].train < 0.1
    assert losses[-1].validation < 0.1
    assert [loss.step for loss in losses] == [1, *range(10, 121, 10)]
    assert [loss.step for loss in losses if loss.validation is not None] == [100, 120]


def test_a_text_shorter_than_the_window_trains(tmp_path):
    """Its one window is then as long as it is, and is learnt."""
    assert learn(tmp_path / "c", text=CYCLE[:4], steps=60)[1][-1].train < 0.1


def test_the_learning_rate_warms_up_holds_and_falls_to_zero(tmp_path):
    """In the first fiftieth up, from a fifth on down in a straight line, from the peak that was asked for."""
    assert _schedule(0) < 0.1
    assert _schedule(0.01) == pytest.approx(0.5, abs=0.1)
    assert [_schedule(done) for done in (0.02, 0.1, 0.2)] == pytest.approx([1, 1, 1])
    assert [_schedule(done) for done in (0.4, 0.6, 0.8, 1)] == pytest.approx([0.75, 0.5, 0.25, 0])
    _, _, reached = learn(tmp_path / "c", steps=50, learning_rate=0.03)
    assert [rate for _, rate in reached] == pytest.approx([0.03 * _schedule(step / 50) for step in range(50)])


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    """With the step and what to do, in one line."""
    with pytest.raises(
        ModelError, match=r"the loss is (inf|nan) at step \d+; lower training.learning_rate in params.yaml"
    ):
        learn(tmp_path / "c", learning_rate=1e38, weight_decay=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told(tmp_path):
    """Asked for by name it is missed; `auto` takes the CPU."""
    with pytest.raises(ModelError, match="training.device is cuda, and torch sees none here; set it to auto"):
        learn(tmp_path / "c", device="cuda")
    assert same(learn(tmp_path / "a", device="auto")[0], learn(tmp_path / "b", device="cpu")[0])


def test_train_resumes_and_clears_up(tmp_path):
    """What a resumed training writes is the same files, byte for byte; the checkpoint goes only then."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "own.py").write_text(OWN)

    same_for_all = {
        "vocab_size": VOCAB,
        "chars_per_token": 1.0,
        "model": ModelParams(name="models/own.py:Net", context=CONTEXT),
        "training": TrainingParams(steps=12, batch_size=2, checkpoint_every=5, device="cpu"),
        "root": tmp_path,
        "key": "k",
    }

    def whole(name, on_progress=lambda _: None):
        folders = {"checkpoint": tmp_path / "checkpoints" / name, "output": tmp_path / name}
        return train(TEXT, TEXT, **same_for_all, **folders, on_progress=on_progress)

    def interrupt(progress):
        if progress.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole("cut", interrupt)
    assert not (tmp_path / "cut").exists()
    assert (tmp_path / "checkpoints" / "cut").is_dir()
    assert whole("cut") == whole("whole")
    names = {"model.onnx", "model.safetensors", "model.json", "losses.csv"}
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {file.name for file in (tmp_path / "cut").iterdir()} == names
    assert not list((tmp_path / "checkpoints").iterdir())
