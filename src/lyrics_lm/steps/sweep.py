"""One experiment of a sweep (`dvc exp run --queue --set-param …`) in MLflow: a child of its sweep's run."""

import json

from filelock import FileLock

from lyrics_lm import versioning
from lyrics_lm.params import Settings
from lyrics_lm.steps import pipeline
from lyrics_lm.steps.train import flat_params, losses


def put_on_record(settings: Settings, experiment: versioning.Experiment) -> None:
    """Log what the experiment was given and came to. It is no version: `dvc exp apply` and `train` make it one."""
    from lyrics_lm.registry import runs
    from lyrics_lm.registry.server import tracking

    root = settings.root
    metrics = json.loads((root / pipeline.METRICS).read_bytes())
    with FileLock(settings.home / "sweep.lock"), tracking(settings) as uri:  # whoever started MLflow stops it
        run = runs.start_child(uri, experiment.baseline, experiment.name, flat_params(settings))
        runs.log_losses(uri, run, losses((root / pipeline.LOSSES).read_text()))
        scores = {f"test_{name}": metrics[name] for name in ("bits_per_char", "perplexity")}
        runs.finish(uri, run, scores, [root / pipeline.METRICS, root / pipeline.LOSSES])
