import csv
import errno
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lyrics_lm.corpus import dataset, sample
from lyrics_lm.corpus.splits import TEST
from lyrics_lm.corpus.text import SONG_BREAK
from lyrics_lm.errors import CorpusError, MachineError
from lyrics_lm.params import CorpusParams, TokenizerParams
from lyrics_lm.records import CorpusSummary

CORPUS = CorpusParams()


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    path = tmp_path / "songs.csv"
    sample.write(path, songs=250)
    with path.open("a") as file:
        file.write("one,too,few\r\n")
    return path


def prepare(file: Path, directory: Path, kind: str = "characters") -> CorpusSummary:
    tokenizer = TokenizerParams.model_validate({"kind": kind, "vocab_size": 500})
    return dataset.prepare([file], corpus=CORPUS, tokenizer=tokenizer, digest="abc", directory=directory)


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_the_folder_holds_what_the_summary_says(songs: Path, tmp_path: Path, kind: str) -> None:
    """Songs, tokens, tokenizer, rejects and their counts agree with one another."""
    out = tmp_path / "out"
    summary = prepare(songs, out, kind)
    assert dataset.load_summary(out) == summary
    assert (summary.digest, summary.songs, summary.rejects) == ("abc", 250, 1)
    assert sum(summary.splits.values()) + summary.excluded == 250
    assert summary.characters == pl.read_parquet(out / dataset.SONGS)["text"].str.len_chars().sum()
    assert summary.vocab_size == dataset.load_tokenizer(out).get_vocab_size()
    assert (out / dataset.REJECTS).read_text().startswith('{"file":"songs.csv","line":')
    for split in ("train", "validation"):
        assert summary.tokens[split] == len(dataset.load_tokens(out, split))
        assert summary.splits[split] == len(dataset.split_songs(out, split))


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_tokens_are_the_songs_of_their_split(songs: Path, tmp_path: Path, kind: str) -> None:
    """Decoded, the token ids are every song of the split in order, each after a song break."""
    out = tmp_path / "out"
    summary = prepare(songs, out, kind)
    for split in ("train", "validation"):
        tokens = dataset.load_tokens(out, split)
        assert tokens.dtype == np.uint16
        assert isinstance(tokens, np.memmap)
        text = "".join(SONG_BREAK + text.lower() for text in dataset.split_songs(out, split)["text"])
        decoded = dataset.load_tokenizer(out).decode(tokens, skip_special_tokens=False)
        assert len(decoded) == len(text)
        assert all(one in (other, "\ufffd") for one, other in zip(decoded, text, strict=True))
        if split == "train":
            assert decoded == text
            assert summary.chars_per_token == len(text) / len(tokens)


def test_the_vocabulary_never_sees_held_out_songs(songs: Path, tmp_path: Path) -> None:
    """A character that only a test or validation song has is unknown."""
    held_out = dataset.held_out([songs], CORPUS)["text"][0]
    marked = f"{held_out}\n\u2603"
    with songs.open("a", newline="") as file:
        csv.writer(file).writerow(["x", "y", "z", marked])
    prepare(songs, tmp_path / "out")
    assert marked in dataset.split_songs(tmp_path / "out", TEST)["text"].to_list()
    assert dataset.load_tokenizer(tmp_path / "out").token_to_id("\u2603") is None


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_the_output_is_the_same_every_time(songs: Path, tmp_path: Path, kind: str) -> None:
    """Byte for byte: DVC knows the folder by its content."""
    digests = []
    for name in ("one", "other"):
        prepare(songs, tmp_path / name, kind)
        files = sorted((tmp_path / name).iterdir())
        digests.append([(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files])
    assert digests[0] == digests[1]


def test_held_out_songs_are_the_test_songs(songs: Path, tmp_path: Path) -> None:
    """Straight from the files come the same songs that `prepare` holds out."""
    prepare(songs, tmp_path / "out")
    held_out = dataset.held_out([songs], CORPUS)
    assert held_out.equals(dataset.split_songs(tmp_path / "out", TEST).select("artist", "song", "text"))
    assert len(held_out) > 0


def test_held_out_songs_stay_when_songs_are_added(songs: Path, tmp_path: Path) -> None:
    """A second file brings new test songs after the old ones and takes none away."""
    more = tmp_path / "songs2.csv"
    sample.write(more, songs=250, seed=2)
    before, after = dataset.held_out([songs], CORPUS), dataset.held_out([more, songs], CORPUS)
    assert after.head(len(before)).equals(before)
    assert len(after) > len(before)


def test_a_corpus_of_few_songs_is_refused(tmp_path: Path) -> None:
    """The message says how many songs there are and how many are needed; nothing is written."""
    sample.write(tmp_path / "few.csv", songs=12)
    with pytest.raises(CorpusError, match="has 12 songs, too few to split; at least 20 are needed and 100 advised"):
        prepare(tmp_path / "few.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corpus_without_a_test_song_is_refused(tmp_path: Path) -> None:
    """A split that no song fell into is named."""
    rows = "".join(f'"la la la {"lu " * (i % 3)}"\n' for i in range(30))
    (tmp_path / "same.csv").write_text("text\n" + rows)
    with pytest.raises(CorpusError, match=r"none of the corpus's 30 songs fell into the .* split; at least 20"):
        prepare(tmp_path / "same.csv", tmp_path / "out")


def test_a_full_disk_leaves_the_old_folder(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is replaced whole or not at all."""
    out = tmp_path / "out"
    summary = prepare(songs, out)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", no_room)
    with pytest.raises(MachineError, match="disk is full"):
        prepare(songs, out, "bpe")
    assert dataset.load_summary(out) == summary
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "songs.csv"]


def test_a_folder_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    """Reading what is not there says what is missing and how to make it."""
    with pytest.raises(CorpusError, match=r"holds no train.npy; prepare the corpus again: lyrics-lm step prepare"):
        dataset.load_tokens(tmp_path, "train")
