"""Named settings: `presets.yaml`, as assignments to `params.yaml`."""

from collections.abc import Iterator
from importlib import resources

import yaml


def assignments(name: str) -> Iterator[str]:
    """`section.key=value` for all that a preset of this name says."""
    text = (resources.files("lyrics_lm.workspace") / "presets.yaml").read_text(encoding="utf-8")
    for section, values in yaml.safe_load(text)[name].items():
        for key, value in values.items():
            yield f"{section}.{key}={value}"
