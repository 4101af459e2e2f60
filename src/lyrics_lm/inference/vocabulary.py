"""Between text and token ids: a bundle's tokenizer, read once, quick to spell. Knows no model."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from lyrics_lm.bundle import TOKENIZER, Bundle
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.errors import ConformanceError

_HALF = "\N{REPLACEMENT CHARACTER}"  # what a decoder shows of a character that is cut


class Vocabulary:
    """The tokens of one bundle. `spelling` holds the text of each where a token's text never depends on
    its neighbours, as with characters; None where it does, as with bytes."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self._tokenizer = tokenizer
        self.unknown = unknown_token(tokenizer)
        self.spelling = self._spell(size)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; an empty one is the start of a song."""
        ids: list[int] = self._tokenizer.encode(text or SONG_BREAK, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def speller(self) -> "Speller":
        """For one text that grows at its end."""
        return Speller(self._tokenizer, self.spelling)

    def _spell(self, size: int) -> list[str] | None:
        ids = range(size)
        each = [self.decode([token]) for token in ids]
        apart = "".join(each) == self.decode(ids) and "".join(each[::-1]) == self.decode(ids[::-1])
        return each if apart and _HALF not in "".join(each) else None


class Speller:
    """Tokens in, text out, a part at a time; a character of several tokens comes when it is whole."""

    def __init__(self, tokenizer: Tokenizer, spelling: list[str] | None) -> None:
        self._tokenizer = tokenizer
        self._spelling = spelling
        self._stream = None if spelling else DecodeStream()

    def spell(self, tokens: Sequence[int]) -> str:
        if self._spelling:
            return "".join([self._spelling[token] for token in tokens])
        assert self._stream is not None  # there is one where there is no spelling
        return "".join(self._stream.step(self._tokenizer, token) or "" for token in tokens)


class StopStrings:
    """Holds back text that may be the beginning of a stop string, across token borders."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show now, and whether a stop string was met (it is left out)."""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            return self._held[: min(found)], True
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown, False

    def rest(self) -> str:
        return self._held

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        sizes = range(min(len(stop) - 1, len(self._held)), 0, -1)
        return next((size for size in sizes if self._held.endswith(stop[:size])), 0)


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's `tokenizer.json`; raises `ConformanceError` when it cannot be read."""
    path = bundle.path / TOKENIZER
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ConformanceError(f"{path} is not a tokenizers file: {error}; save it with Tokenizer.save") from error


def unknown_token(tokenizer: Tokenizer) -> int | None:
    """The id that unknown characters map to, if the tokenizer has one."""
    name = getattr(tokenizer.model, "unk_token", None)
    return None if name is None else tokenizer.token_to_id(name)
