"""The folder that training and evaluation read: songs with their splits, token ids, tokenizer, rejects, summary.

Nothing in it depends on the time or the machine, since DVC knows it by its content.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from lyrics_lm import durable
from lyrics_lm.corpus.csv_records import count
from lyrics_lm.corpus.rows import Reject
from lyrics_lm.corpus.songs import read_songs
from lyrics_lm.corpus.splits import EXCLUDED, SPLITS, TEST, TRAIN, VALIDATION, assign
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.corpus.tokenizer import Tokens, build, encode_all
from lyrics_lm.errors import CorpusError
from lyrics_lm.params import CorpusParams, TokenizerParams
from lyrics_lm.records import CorpusSummary, from_json, to_json

SONGS = "songs.parquet"
TOKENS = "{split}.npy"
TOKENIZER = "tokenizer.json"
REJECTS = "rejects.jsonl"
SUMMARY = "summary.json"

MIN_SONGS = 20
ENOUGH_SONGS = 100  # of so many, all but one corpus in a hundred has songs in every split
_MORE = f"at least {MIN_SONGS} are needed and {ENOUGH_SONGS} advised; give files with more"


def prepare(
    files: Sequence[Path], *, corpus: CorpusParams, tokenizer: TokenizerParams, digest: str, directory: Path
) -> CorpusSummary:
    """Make `directory` from song files, whole or not at all; `digest` names the corpus.

    Raises `CorpusError` when the files cannot be used or hold too few songs to split.
    """
    songs, rejects, duplicates = _read_and_split(files, corpus)
    _check_size(songs)
    texts = {split: _texts(songs, split) for split in SPLITS}
    built = build(texts[TRAIN], tokenizer)
    tokens = {split: encode_all(built, [SONG_BREAK + text for text in texts[split]]) for split in (TRAIN, VALIDATION)}
    train_characters = sum(len(SONG_BREAK) + len(text) for text in texts[TRAIN])
    summary = CorpusSummary(
        digest=digest,
        songs=len(songs),
        rejects=len(rejects),
        duplicates=duplicates,
        excluded=len(_texts(songs, EXCLUDED)),
        characters=int(songs["text"].str.len_chars().sum()),
        splits={split: len(texts[split]) for split in SPLITS},
        tokens={split: len(ids) for split, ids in tokens.items()},
        vocab_size=built.get_vocab_size(),
        chars_per_token=train_characters / len(tokens[TRAIN]),
    )
    with durable.directory(directory) as folder:
        _write(folder, songs, tokens, built, rejects, summary)
    return summary


def require_enough(songs: int) -> None:
    """Raise `CorpusError` when so few songs cannot be split."""
    if songs < MIN_SONGS:
        raise CorpusError(f"the corpus has {count(songs, 'song')}, too few to split; {_MORE}")


def held_out(files: Sequence[Path], corpus: CorpusParams) -> pl.DataFrame:
    """The test songs of these files (artist, song, text): those that `prepare` would hold out."""
    songs, _, _ = _read_and_split(files, corpus)
    return songs.filter(pl.col("split") == TEST).select("artist", "song", "text")


def load_tokens(directory: Path, split: str) -> Tokens:
    """Token ids (N) of all songs of `train` or `validation`, each after a song break; mapped, not read."""
    ids: Tokens = np.load(_part(directory, TOKENS.format(split=split)), mmap_mode="r", allow_pickle=False)
    return ids


def split_songs(directory: Path, split: str) -> pl.DataFrame:
    """Songs of a split in corpus order: artist, song, text, split, file, line."""
    return pl.read_parquet(_part(directory, SONGS)).filter(pl.col("split") == split)


def load_tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(_part(directory, TOKENIZER)))


def load_summary(directory: Path) -> CorpusSummary:
    return from_json(_part(directory, SUMMARY).read_bytes(), CorpusSummary)


def _part(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file():
        raise CorpusError(f"{directory} holds no {name}; prepare the corpus again: lyrics-lm step prepare")
    return path


def _read_and_split(files: Sequence[Path], corpus: CorpusParams) -> tuple[pl.DataFrame, tuple[Reject, ...], int]:
    """Songs with their splits, the rows set aside, and how many songs resemble an earlier one."""
    read = read_songs(files, corpus)
    assigned = assign(read.songs["text"].to_list(), corpus.near_duplicate)
    splits = pl.Series("split", assigned.splits, dtype=pl.String)
    songs = read.songs.with_columns(splits).select("artist", "song", "text", "split", "file", "line")
    return songs, read.rejects, assigned.duplicates


def _check_size(songs: pl.DataFrame) -> None:
    require_enough(len(songs))
    for split in SPLITS:
        if not _texts(songs, split):
            raise CorpusError(f"none of the corpus's {len(songs)} songs fell into the {split} split; {_MORE}")


def _texts(songs: pl.DataFrame, split: str) -> list[str]:
    return songs.filter(pl.col("split") == split)["text"].to_list()


def _write(
    folder: Path,
    songs: pl.DataFrame,
    tokens: dict[str, Tokens],
    tokenizer: Tokenizer,
    rejects: Sequence[Reject],
    summary: CorpusSummary,
) -> None:
    parquet = io.BytesIO()  # so that a full disk is met by Python's own write, which says so
    songs.write_parquet(parquet)
    (folder / SONGS).write_bytes(parquet.getbuffer())
    for split, ids in tokens.items():
        np.save(folder / TOKENS.format(split=split), ids, allow_pickle=False)
    (folder / TOKENIZER).write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    (folder / REJECTS).write_bytes(b"".join(to_json(reject) + b"\n" for reject in rejects))
    (folder / SUMMARY).write_bytes(to_json(summary) + b"\n")
