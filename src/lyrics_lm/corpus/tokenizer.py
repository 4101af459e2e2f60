"""Text to token ids: how a tokenizer is built from the training songs, and how a whole corpus is encoded.

What is built is a plain Hugging Face `Tokenizer`; whoever reads its `tokenizer.json` needs no code of ours.
"""

import unicodedata
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.errors import CorpusError
from lyrics_lm.params import TokenizerParams

UNKNOWN = "\ufffd"
TOKEN = np.uint16
MAX_VOCABULARY = np.iinfo(TOKEN).max + 1

_TEXTS_AT_ONCE = 1000
_ALL_CODE_POINTS = 0x110000

# A newline is always a token of its own, so the tokens of a song break and of the song after it are those
# of the two joined. A word takes the blank before it along; every character falls in exactly one piece.
_PIECES = r"\n| ?[\p{L}\p{M}\p{N}'\x{2019}]+| ?[^\s\p{L}\p{M}\p{N}'\x{2019}]+|\s"

Tokens = NDArray[np.uint16]


def build(texts: Sequence[str], params: TokenizerParams) -> Tokenizer:
    """A tokenizer that lower-cases, made from these texts alone; `decode` of what it encodes is that text."""
    tokenizer = _characters(texts) if params.kind == "characters" else _bpe(texts, params.vocab_size)
    size = tokenizer.get_vocab_size()
    if size > MAX_VOCABULARY:
        raise CorpusError(
            f"the training songs hold {size} different characters, more than {MAX_VOCABULARY} tokens; "
            "remove songs in scripts that you do not need"
        )
    return tokenizer


def encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """Token ids of clean texts (NFC), one text after the other: exactly those of `tokenizer.encode`."""
    batches = (texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE))
    if isinstance(tokenizer.model, models.WordLevel):
        encode = _Lookup(tokenizer, texts).encode
    else:
        encode = partial(_encode, tokenizer)
    return np.concatenate([np.empty(0, TOKEN), *map(encode, batches)])


def _characters(texts: Sequence[str]) -> Tokenizer:
    normalizer = _normalizer()
    seen = {lower for char in _distinct(texts) for lower in normalizer.normalize_str(char)} | set(SONG_BREAK)
    vocabulary = [UNKNOWN, *sorted(seen - {UNKNOWN})]
    model = models.WordLevel({char: i for i, char in enumerate(vocabulary)}, unk_token=UNKNOWN)
    return _tokenizer(model, r"[\s\S]")


def _bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = _tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=False), _PIECES)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[UNKNOWN],
        initial_alphabet=sorted(set(SONG_BREAK)),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def _tokenizer(model: models.Model, pieces: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return np.concatenate([np.array(encoding.ids, TOKEN) for encoding in encodings])


class _Lookup:
    """A character tokenizer as a table, some hundred times faster than the library.

    The tokenizer itself fills the table, character by character. Batches with a character that no table
    can stand for are left to it whole.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._table = np.zeros(_ALL_CODE_POINTS, TOKEN)
        self._longer: dict[str, str] = {}  # lower-cased, these are several characters
        distinct = _distinct(texts)
        self._unsettled = {char for char in distinct if not _settled(char)}
        for char in distinct:
            lower = tokenizer.normalizer.normalize_str(char)
            if len(lower) > 1:
                self._longer[char] = lower
            for one in {char, *lower}:
                self._table[ord(one)] = tokenizer.encode(one, add_special_tokens=False).ids[0]

    def encode(self, texts: Sequence[str]) -> Tokens:
        joined = "".join(texts)
        if self._unsettled and not self._unsettled.isdisjoint(joined):
            return _encode(self._tokenizer, texts)
        for char, lower in self._longer.items():
            joined = joined.replace(char, lower)
        return self._table[_code_points(joined)]


def _settled(char: str) -> bool:
    """Whether composing this character with its neighbours (NFC), done in Python when the text was cleaned,
    is final: the tokenizer may know a newer Unicode, but only of characters that Python's lacks."""
    return unicodedata.category(char) != "Cn"


def _distinct(texts: Sequence[str]) -> list[str]:
    seen = np.zeros(_ALL_CODE_POINTS, bool)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        seen[_code_points("".join(texts[start : start + _TEXTS_AT_ONCE]))] = True
    return [chr(point) for point in np.flatnonzero(seen)]


def _code_points(text: str) -> NDArray[np.uint32] | NDArray[np.uint8]:
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
