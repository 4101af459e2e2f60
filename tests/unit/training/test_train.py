import numpy as np
import pytest
from safetensors.numpy import load_file

from lyrics_lm.params import ModelParams, TrainingParams
from lyrics_lm.training.train import train

TOKENS = np.random.default_rng(0).integers(0, 9, 400).repeat(2)
MODEL = ModelParams(context=8, layers=1, width=8, heads=1, ngrams=11)


class Killed(Exception):
    pass


def trained(folder, name, *, on_progress=lambda _: None, **changes):
    return train(
        TOKENS,
        TOKENS[:100],
        vocab_size=9,
        chars_per_token=1.0,
        model=MODEL,
        training=TrainingParams(**{"steps": 12, "batch_size": 2, "checkpoint_every": 4, "device": "cpu"} | changes),
        root=folder,
        checkpoint=folder / "checkpoints",
        key="k",
        output=folder / name,
        on_progress=on_progress,
    )


def weights(folder):
    return {name: tensor.tolist() for name, tensor in load_file(folder / "model.safetensors").items()}


def test_of_several_seeds_the_median_is_kept(tmp_path):
    """Each is the training it would be alone; the one kept is neither the luckiest nor the unluckiest."""
    made = trained(tmp_path, "three", seed=5, seeds=3)
    alone = {seed: trained(tmp_path, f"seed {seed}", seed=seed).seeds[seed] for seed in (5, 6, 7)}
    assert made.seeds == alone
    assert made.seeds[made.seed] == sorted(alone.values())[1]
    assert weights(tmp_path / "three") == weights(tmp_path / f"seed {made.seed}")


def test_seeds_cut_off_go_on_where_they_stood(tmp_path):
    """Those that were done are not trained again, and all comes out the same."""
    whole, steps = trained(tmp_path / "a", "out", seeds=3), []

    def cut(progress):
        steps.append(progress.step)
        if len(steps) == 12 + 6:
            raise Killed

    with pytest.raises(Killed):
        trained(tmp_path / "b", "out", seeds=3, on_progress=cut)
    again = trained(tmp_path / "b", "out", seeds=3, on_progress=lambda progress: steps.append(progress.step))
    assert again == whole
    assert weights(tmp_path / "b" / "out") == weights(tmp_path / "a" / "out")
    assert steps[18:] == [*range(5, 13), *range(1, 13)]
