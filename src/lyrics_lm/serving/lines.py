"""What stands in training songs, as far as this machine holds their index."""

import logging
from pathlib import Path

from lyrics_lm.corpus import verbatim
from lyrics_lm.corpus.verbatim import Verbatim
from lyrics_lm.errors import CorpusError

logger = logging.getLogger("lyrics_lm.serving")


class KnownLines:
    """Looks lines up in the index that the gates left in a folder, taken up anew when they leave another. A damaged
    one tells nothing, which is logged; the next delivery makes it anew."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._index: tuple[str, Verbatim | None] | None = None

    def __call__(self, text: str) -> dict[str, str] | None:
        """Lines that a training song has, and the name of one such song; None where there is no index."""
        index = self.index()
        if index is None:
            return None
        songs = {line.strip(): index.line(line) for line in text.split("\n")}
        return {line: song for line, song in songs.items() if song}

    def index(self) -> Verbatim | None:
        """The index as it is now; None where there is none."""
        if self._folder is None:
            return None
        try:
            made_of = verbatim.made_of(self._folder)
            if made_of and (self._index is None or self._index[0] != made_of):
                self._index = made_of, self._load(self._folder)
        except FileNotFoundError:  # just being replaced: what was read before still tells
            pass
        return self._index[1] if self._index else None

    def _load(self, folder: Path) -> Verbatim | None:
        try:
            return verbatim.load(folder)
        except CorpusError as error:
            logger.error("texts are not guarded against copying: %s", error)
            return None
