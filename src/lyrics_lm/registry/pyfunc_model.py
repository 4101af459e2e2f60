"""The model from code that MLflow stores beside a bundle: prompts in, lyrics out. No pickle."""

from pathlib import Path
from typing import Any

import mlflow
import pandas
from mlflow.pyfunc.model import PythonModel


class Lyrics(PythonModel):
    """`predict` takes a frame with a column `prompt` (or a list of strings) and gives a frame with `text`."""

    def load_context(self, context: Any) -> None:
        from lyrics_lm import bundle
        from lyrics_lm.inference.generator import Generator

        self._generator = Generator(bundle.read(Path(context.artifacts["bundle"])))

    # Without type hints: MLflow takes those of `predict` for a schema.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        from lyrics_lm.inference.generator import Sampling

        asked = params or {}
        sampling = Sampling(
            max_tokens=int(asked.get("max_tokens", 200)),
            temperature=float(asked.get("temperature", 1.0)),
            seed=int(asked.get("seed", 1)),
        )
        frame = pandas.DataFrame(model_input)
        texts = [self._complete(str(prompt), sampling) for prompt in frame.iloc[:, 0]]
        return pandas.DataFrame({"text": texts})

    def _complete(self, prompt: str, sampling: Any) -> str:
        pieces = self._generator.generate(self._generator.encode(prompt), sampling)
        return prompt + "".join(piece.text for piece in pieces)


mlflow.models.set_model(Lyrics())
