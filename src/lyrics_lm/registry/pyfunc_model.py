"""The model from code that MLflow stores beside a bundle: prompts in, lyrics out. No pickle."""

import warnings
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel

with warnings.catch_warnings():
    # MLflow asks for type hints, and would take them for a schema without `params`.
    warnings.simplefilter("ignore")

    class Lyrics(PythonModel):
        """`predict` takes a list of prompts, or a frame with one column of them, and gives a list of texts."""

        def load_context(self, context: Any) -> None:
            from lyrics_lm import bundle
            from lyrics_lm.inference.generator import Generator

            self._generator = Generator(bundle.read(Path(context.artifacts["bundle"])))

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
            from lyrics_lm.inference.stream import Sampling

            asked = params or {}
            sampling = Sampling(
                max_tokens=int(asked.get("max_tokens", 200)),
                temperature=float(asked.get("temperature", 1.0)),
                seed=int(asked.get("seed", 1)),
            )
            prompts = model_input if isinstance(model_input, list) else model_input.iloc[:, 0]
            return [self._complete(str(prompt), sampling) for prompt in prompts]

        def _complete(self, prompt: str, sampling: Any) -> str:
            pieces = self._generator.generate(self._generator.vocabulary.encode(prompt), sampling)
            return prompt + "".join(piece.text for piece in pieces)


mlflow.models.set_model(Lyrics())
