"""This package's own source, in part: what travels with a model so that it runs without the rest."""

import shutil
from pathlib import Path

_ROOT = Path(__file__).parent

# Everything a bundle needs to turn a prompt into text.
INFERENCE = (
    "__init__.py",
    "bundle.py",
    "corpus/__init__.py",
    "corpus/text.py",
    "durable.py",
    "errors.py",
    "inference",
    "records.py",
)
# And to do so behind HTTP.
SERVING = (
    *INFERENCE,
    "corpus/verbatim.py",
    "keys.py",
    "monitoring/__init__.py",
    "monitoring/words.py",
    "rollout.py",
    "segments.py",
    "serving",
    "signing.py",
    "traffic.py",
)
# And to do so as a function, without the service's libraries.
FUNCTION = (
    *INFERENCE,
    "corpus/verbatim.py",
    "monitoring/__init__.py",
    "monitoring/words.py",
    "rollout.py",
    "signing.py",
    *(f"serving/{file}.py" for file in ("__init__", "asking", "completions", "function", "guard", "live", "types")),
)


def copy(parts: tuple[str, ...], folder: Path) -> Path:
    """Copy those parts to `folder/lyrics_lm` and return it."""
    package = folder / _ROOT.name
    for part in parts:
        origin, copied = _ROOT / part, package / part
        copied.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, copied, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(origin, copied)
    return package
