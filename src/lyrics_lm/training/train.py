"""One training, whichever model `params.yaml` names: token ids in, a folder with `model.onnx` out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lyrics_lm import durable
from lyrics_lm.bundle import MODEL, WEIGHTS
from lyrics_lm.errors import LyricsError, ModelError
from lyrics_lm.params import ModelParams, TrainingParams
from lyrics_lm.records import Progress, to_json
from lyrics_lm.training import bigram
from lyrics_lm.training.result import LOSSES, RECORD, Loss, TrainedModel, write_losses

Tokens = npt.NDArray[np.integer]


def train(
    tokens: Tokens,
    validation: Tokens,
    *,
    vocab_size: int,
    chars_per_token: float,
    model: ModelParams,
    training: TrainingParams,
    root: Path,
    checkpoint: Path,
    key: str,
    output: Path,
    on_progress: Callable[[Progress], None],
) -> TrainedModel:
    """Train on token ids (N) and write `output`: graph, weights, losses, record; whole or not at all.

    `root` is where a class of the user's own lies; `key` names what is trained, so that `checkpoint`
    is only taken up for the same. Raises `ModelError` when the model cannot be built, trained or exported.
    """
    with durable.directory(output) as folder:
        if model.name == bigram.ARCHITECTURE:
            trained = _count(tokens, validation, vocab_size, folder)
        else:
            trained = _learn(
                tokens,
                validation,
                vocab_size,
                chars_per_token,
                model,
                training,
                root,
                checkpoint,
                key,
                folder,
                on_progress,
            )
        (folder / RECORD).write_bytes(to_json(trained) + b"\n")
    shutil.rmtree(checkpoint, ignore_errors=True)
    return trained


def _count(tokens: Tokens, validation: Tokens, vocab_size: int, folder: Path) -> TrainedModel:
    table = bigram.count(tokens, vocab_size)
    bigram.export(table, folder / MODEL)
    losses = [Loss(1, bigram.mean_loss(table, tokens), bigram.mean_loss(table, validation))]
    write_losses(folder / LOSSES, losses)
    return TrainedModel(bigram.ARCHITECTURE, vocab_size, bigram.CONTEXT, (), table.size)


def _learn(
    tokens: Tokens,
    validation: Tokens,
    vocab_size: int,
    chars_per_token: float,
    model: ModelParams,
    training: TrainingParams,
    root: Path,
    checkpoint: Path,
    key: str,
    folder: Path,
    on_progress: Callable[[Progress], None],
) -> TrainedModel:
    """One network for each seed; the one of median validation loss is kept, and the losses of all are told."""
    import torch

    from lyrics_lm.training import spread
    from lyrics_lm.training.checkpoint import save_tensors
    from lyrics_lm.training.export import export
    from lyrics_lm.training.loop import Loop
    from lyrics_lm.training.model import build, state_of, where

    def job(name: str, of_seed: TrainingParams, folder: Path) -> "spread.Job":
        mapped, held_out = spread.file_of(tokens), spread.file_of(validation)
        return spread.Job(name, mapped, held_out, vocab_size, chars_per_token, model, of_seed, root, folder, key)

    def fit(seed: int) -> tuple[torch.nn.Module, list[Loss]]:
        torch.manual_seed(seed)
        network = build(model, vocab_size, root)
        name = f"{model.name}, seed {seed}" if training.seeds > 1 else model.name
        of_seed = training.model_copy(update={"seed": seed})
        if training.processes > 1:  # which end in a checkpoint of the last step: that is taken up here
            spread.train(job(name, of_seed, checkpoint / str(seed)), on_progress)
        loop = Loop(network, name, model.context, of_seed, checkpoint / str(seed), key)
        return network, loop.run(tokens, validation, chars_per_token, on_progress)

    try:
        fitted = {seed: fit(seed) for seed in range(training.seed, training.seed + training.seeds)}
    except LyricsError:
        raise
    except Exception as error:  # a network of the user's own may raise anything; ours is let crash
        file = root / model.name.partition(":")[0]
        if not file.is_file():
            raise
        raise ModelError(f"{model.name} failed in training: {where(error, file)}; mend it") from error
    reached = {seed: _last(losses) for seed, (_, losses) in fitted.items()}
    seed = sorted(reached, key=lambda seed: (reached[seed], seed))[(len(reached) - 1) // 2]
    network, losses = fitted[seed]
    write_losses(folder / LOSSES, losses)
    export(network, model.context, vocab_size, folder / MODEL)
    save_tensors(network.state_dict(), folder / WEIGHTS)
    parameters = sum(weight.numel() for weight in network.parameters())
    return TrainedModel(model.name, vocab_size, model.context, state_of(network), parameters, seed, reached)


def _last(losses: list[Loss]) -> float:
    """The validation loss at the end."""
    return next(loss.validation for loss in reversed(losses) if loss.validation is not None)
