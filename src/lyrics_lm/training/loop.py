"""The training loop: batches, optimisers, learning rate, checkpoints. Knows no particular network."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyrics_lm.errors import ModelError
from lyrics_lm.params import TrainingParams
from lyrics_lm.records import Progress
from lyrics_lm.training import checkpoint
from lyrics_lm.training.checkpoint import Checkpoint
from lyrics_lm.training.muon import Muon
from lyrics_lm.training.peers import Peers
from lyrics_lm.training.result import Loss

Tokens = npt.NDArray[np.integer]

_SMALL = 1_000_000  # parameters below which a second thread gains nothing, and would be missed by the service
_WARMUP = 0.02  # of all steps
_DECAY = 0.8
_SELDOM = 3.0  # times the learning rate, for what learns from few of the tokens
_CLIP = 1.0
_LOSS_EVERY = 10  # steps
_VALIDATE_EVERY = 100
_VALIDATION_WINDOWS = 64


class Loop:
    """One training of one model on one text, from its checkpoint if it has one."""

    def __init__(
        self, model: nn.Module, name: str, context: int, params: TrainingParams, checkpoints: Path, key: str
    ) -> None:
        self._params = params
        self._name = name
        self._context = context
        self._checkpoints, self._key = checkpoints, key
        self._device = _device(params.device)
        if sum(weight.numel() for weight in model.parameters()) < _SMALL:
            torch.set_num_threads(1)
        self._model = model.to(self._device)
        self._peers = Peers()
        compiled = cast("nn.Module", torch.compile(self._model)) if self._device.type == "cuda" else self._model
        self._called = self._peers.averaging(compiled)
        self._optimisers = _optimisers(model, params)
        self._losses: list[Loss] = []
        self._step = 0
        self._resume()

    def run(
        self, tokens: Tokens, validation: Tokens, chars_per_token: float, on_progress: Callable[[Progress], None]
    ) -> list[Loss]:
        """Train to the last step; returns the losses. Raises `ModelError` when the loss is no number."""
        starts = self._starts(validation, np.random.Generator(np.random.Philox(0)), _VALIDATION_WINDOWS)
        held_out = self._windows(validation, starts)
        began, first = time.monotonic(), self._step
        while self._step < self._params.steps:
            loss = self._advance(self._batch(tokens))
            self._note(loss, held_out)
            elapsed = time.monotonic() - began
            left = (self._params.steps - self._step) * elapsed / (self._step - first)
            bits = loss / math.log(2) / chars_per_token
            on_progress(Progress(self._name, self._step, self._params.steps, loss, bits, elapsed, left))
            if self._step % self._params.checkpoint_every == 0 or self._step == self._params.steps:
                self._save()  # at the end too: other seeds may follow, or the process that started these
        return self._losses

    def _advance(self, batch: Tensor) -> float:
        """One step on windows (B, T + 1); returns the loss in nats per token."""
        self._model.train()
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * _schedule(self._step / self._params.steps)
        chance = int(self._randomness().integers(2**32))
        torch.manual_seed(chance + self._peers.rank)  # for dropout in a network of the user's own
        loss = _loss(self._called, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        nn.utils.clip_grad_norm_(self._model.parameters(), _CLIP)
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self._step += 1
        value = self._peers.mean(loss.detach()).item()
        if not math.isfinite(value):
            raise ModelError(f"the loss is {value} at step {self._step}; lower training.learning_rate in params.yaml")
        return value

    def _note(self, loss: float, held_out: Tensor) -> None:
        validate = self._step % _VALIDATE_EVERY == 0 or self._step == self._params.steps
        if validate or self._step % _LOSS_EVERY == 0 or self._step == 1:
            self._losses.append(Loss(self._step, loss, self._validate(held_out) if validate else None))

    @torch.inference_mode()
    def _validate(self, held_out: Tensor) -> float:
        self._model.eval()
        return _loss(self._called, held_out).item()

    def _batch(self, tokens: Tokens) -> Tensor:
        starts = self._starts(tokens, self._randomness(), self._params.batch_size)
        return self._windows(tokens, self._peers.share(starts))

    def _randomness(self) -> np.random.Generator:
        """Chance in this step: a function of seed and step alone, so that resuming needs no more."""
        key = np.array([self._params.seed % 2**64, self._step], dtype=np.uint64)  # untyped, 2**63 would be a float
        return np.random.Generator(np.random.Philox(key=key))

    def _starts(self, tokens: Tokens, randomness: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Where random windows of a text of token ids (N) begin (count)."""
        return randomness.integers(0, len(tokens) - self._time(tokens), size=count)

    def _windows(self, tokens: Tokens, starts: npt.NDArray[np.int64]) -> Tensor:
        """Windows (B, T + 1) of a text of token ids (N)."""
        length = self._time(tokens) + 1
        windows = np.stack([tokens[start : start + length] for start in starts]).astype(np.int64)
        return torch.from_numpy(windows).to(self._device)

    def _time(self, tokens: Tokens) -> int:
        return min(self._context, len(tokens) - 1)

    def _save(self) -> None:
        if self._peers.rank:
            return  # the first process saves for all
        states = {place: optimiser.state_dict()["state"] for place, optimiser in enumerate(self._optimisers)}
        kept = Checkpoint(self._step, tuple(self._losses), dict(self._model.state_dict()), states)
        checkpoint.save(self._checkpoints, self._key, kept)

    def _resume(self) -> None:
        kept = checkpoint.load(self._checkpoints, self._key)
        if kept is None:
            return
        self._step, self._losses = kept.step, list(kept.losses)
        self._model.load_state_dict(kept.model)
        for place, optimiser in enumerate(self._optimisers):
            optimiser.load_state_dict({**optimiser.state_dict(), "state": kept.optimisers.get(place, {})})


def _loss(model: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
    """Mean nats per token of predicting each next token of windows (B, T + 1); on a GPU with products in bfloat16."""
    with torch.autocast(windows.device.type, torch.bfloat16, enabled=windows.is_cuda):
        logits = model(windows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())


def _optimisers(model: nn.Module, params: TrainingParams) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between embedding and output, AdamW for the rest. Both share one learning rate, but
    for embeddings and the output, whose rows are each seen seldom."""
    hidden, seldom = _hidden_matrices(model), _vocabulary_matrices(model)
    chosen = {id(weight) for weight in (*hidden, *seldom)}
    rest = [weight for weight in model.parameters() if id(weight) not in chosen]
    groups = [
        {"params": weights, "lr": rate}
        for weights, rate in ((seldom, _SELDOM * params.learning_rate), (rest, params.learning_rate))
        if weights
    ]
    made: list[torch.optim.Optimizer] = []
    if hidden:
        made.append(Muon(hidden, lr=params.learning_rate, momentum=0.9, weight_decay=params.weight_decay))
    if groups:
        made.append(torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return made


def _hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Weights of linear layers other than the last one, which speaks the vocabulary."""
    return [layer.weight for layer in _linear(model)[:-1]]


def _vocabulary_matrices(model: nn.Module) -> list[Tensor]:
    """Weights of embeddings and of the last linear layer; each once, for the two may be tied."""
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    return list({id(weight): weight for weight in (*tables, *(layer.weight for layer in _linear(model)[-1:]))}.values())


def _linear(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def _schedule(done: float) -> float:
    """Learning rate over its peak when this part of all steps is done: warm up, hold, fall to zero."""
    return min(1.0, (done + 1e-3) / _WARMUP, (1 - done) / _DECAY)


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("training.device is cuda, and torch sees none here; set it to auto")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
