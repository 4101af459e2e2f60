"""`lyrics-lm generate`: lyrics from the champion, without a server."""

from collections.abc import Iterator
from pathlib import Path

from lyrics_lm import bundle, rollout
from lyrics_lm.errors import ServiceError
from lyrics_lm.params import Settings


def generate(
    settings: Settings, prompt: str, *, max_tokens: int, temperature: float, seed: int | None
) -> Iterator[str]:
    """The prompt, then pieces of text as they are drawn. Raises `ServiceError` when nothing is live."""
    from lyrics_lm.inference.generator import Generator
    from lyrics_lm.inference.stream import Sampling

    live = rollout.read(settings.home, "local").live
    if live is None:
        raise ServiceError("no version is live yet; start the loop with: lyrics-lm up")
    generator = Generator(bundle.read(Path(live.path)))
    yield prompt
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    for piece in generator.generate(generator.vocabulary.encode(prompt), sampling):
        yield piece.text
