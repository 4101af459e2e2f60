"""Text in, text out: a loaded bundle with its tokenizer. Knows no HTTP and no threads."""

from collections.abc import Iterator, Sequence

from lyrics_lm.bundle import Bundle
from lyrics_lm.inference.batch import Batch
from lyrics_lm.inference.engine import Engine
from lyrics_lm.inference.stream import Piece, Sampling, Stream
from lyrics_lm.inference.vocabulary import Vocabulary, load_tokenizer


class Generator:
    """One bundle, ready to write. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        self.engine = Engine(bundle, threads=threads)
        self.vocabulary = Vocabulary(load_tokenizer(bundle), bundle.manifest.vocab_size)

    def stream(self, prompt: Sequence[int], sampling: Sampling, *, choice: int = 0) -> Stream:
        """A text to be written after `prompt` (token ids, at least one)."""
        return Stream(self.vocabulary, prompt, sampling, choice=choice)

    def batch(self) -> Batch:
        """An empty batch over this bundle."""
        return Batch(self.engine, self.vocabulary.unknown)

    def generate(self, prompt: Sequence[int], sampling: Sampling, *, choice: int = 0) -> Iterator[Piece]:
        """Pieces of text after `prompt` as they are drawn, the last with its finish reason; written here
        and now, in a batch of its own: the text is the one that any batch would give."""
        stream, batch = self.stream(prompt, sampling, choice=choice), self.batch()
        batch.add(stream)
        while not stream.ended:
            batch.turn()
            if piece := stream.take():
                yield piece
