from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lyrics_lm.corpus.songs import Songs, read_songs
from lyrics_lm.errors import CorpusError
from lyrics_lm.params import CorpusParams

HEADER = "artist,song,link,text\r\n"


def put(folder: Path, content: str | bytes, name: str = "songs.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(*files: Path, max_rejects: int = 100) -> Songs:
    return read_songs(files, CorpusParams(max_rejects=max_rejects))


def song(number: int) -> str:
    """A row as the real data set has it."""
    text = f"Line one of {number}  \r\nOh, oh, oh, oh  \r\n  \r\nLast line\r\n\r\n"
    return f'Ann,Song {number},/a/{number}.html,"{text}"\r\n'


def faults(songs: Songs) -> list[tuple[int, str]]:
    return [(reject.line, reject.reason) for reject in songs.rejects]


def test_a_row_of_the_real_data_set(tmp_path: Path) -> None:
    """CRLF inside quotes, blanks at line ends and the link column are all in a day's work."""
    songs = read(put(tmp_path, HEADER + song(1) + song(2)))
    assert songs.rejects == ()
    assert songs.songs.rows()[1] == (
        "Ann",
        "Song 2",
        "Line one of 2\nOh, oh, oh, oh\n\nLast line",
        "songs.csv",
        8,
    )


@pytest.mark.parametrize("header", ["TEXT", "Lyrics", " lyric ", "\ufefftext"])
def test_text_columns_are_matched_by_name(tmp_path: Path, header: str) -> None:
    """Case, blanks and a byte order mark do not hide the text column; artist and title may lack."""
    songs = read(put(tmp_path, f"id,{header}\n1,la la\n" if header[0] != "\ufeff" else f"{header}\nla la\n"))
    assert songs.songs.select("artist", "song", "text").rows() == [("", "", "la la")]


def test_titles_have_three_names(tmp_path: Path) -> None:
    """`song`, `title` and `track` all name the song."""
    files = [put(tmp_path, f"{name},text\nHello,la la\n", f"{name}.csv") for name in ("song", "title", "Track")]
    assert read(*files).songs["song"].to_list() == ["Hello"] * 3


def test_every_format_gives_the_same_songs(tmp_path: Path) -> None:
    """CSV, JSON lines and Parquet of the same rows differ in file and line alone."""
    frame = pl.DataFrame({"artist": ["Ann", None], "title": ["One", "Zwei"], "Lyrics": ["la la\nlu", "ü"]})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_ndjson(tmp_path / "b.jsonl")
    frame.write_parquet(tmp_path / "c.parquet")
    rows = read(*tmp_path.iterdir()).songs.select("artist", "song", "text").rows()
    assert rows == [("Ann", "One", "la la\nlu"), ("", "Zwei", "ü")] * 3


def test_files_are_read_in_order_of_name(tmp_path: Path) -> None:
    """Corpus order is that of arrival, which `data add` writes into the names."""
    later, earlier = put(tmp_path, "text\nlater\n", "0002-a.csv"), put(tmp_path, "text\nearlier\n", "0001-z.csv")
    assert read(later, earlier).songs["text"].to_list() == ["earlier", "later"]


def test_unusable_rows_are_set_aside_by_line(tmp_path: Path) -> None:
    """Empty, short, undecodable and NUL rows are each named; the songs around them are kept."""
    rows = b'a,b,/l,""\r\na,b\r\na,b,/l,caf\xe9\r\na,b,/l,nu\0l\r\na,b,/l," \r\n "\r\n'
    songs = read(put(tmp_path, HEADER.encode() + song(1).encode() + rows + song(2).encode()))
    assert len(songs.songs) == 2
    assert faults(songs) == [
        (8, "has no text"),
        (9, "has 2 columns where the header has 4"),
        (10, "is not UTF-8: byte 0xe9"),
        (11, "holds a NUL character"),
        (12, "has no text"),
    ]
    assert songs.rejects[2].excerpt.endswith("caf\\udce9")


def test_a_quote_open_at_the_end_is_named_where_it_began(tmp_path: Path) -> None:
    """The reject says at which line the quote opened and how much of the file it swallowed."""
    songs = read(put(tmp_path, HEADER + song(1) + song(2).removesuffix('"\r\n')))
    assert len(songs.songs) == 1
    assert songs.rejects[0].line == 8
    assert songs.rejects[0].reason == (
        "a quote opened here is still open at the end of the file, line 12; it swallowed 5 lines"
    )


def test_a_quote_left_open_costs_one_song_only(tmp_path: Path) -> None:
    """An open quote runs into the next row; that row and all after it are still read."""
    songs = read(put(tmp_path, HEADER + song(1) + song(2).replace('\r\n"', "\r\n") + song(3) + song(4)))
    assert songs.songs["song"].to_list() == ["Song 1", "Song 3", "Song 4"]
    assert [reject.line for reject in songs.rejects] == [8]
    assert "not closed before the next row" in songs.rejects[0].reason


def test_every_quote_left_open_counts(tmp_path: Path) -> None:
    """Where no row is whole each is a reject of its own, so that `corpus.max_rejects` is met."""
    open_quotes = "".join(song(number).replace('\r\n"', "\r\n") for number in range(2, 12))
    songs = read(put(tmp_path, HEADER + song(1) + open_quotes))
    assert len(songs.songs) == 1
    assert len(songs.rejects) == 10


def test_a_quote_inside_the_text_costs_one_song_only(tmp_path: Path) -> None:
    """A quote that is not doubled breaks its own row; lines of it with three commas are no rows."""
    songs = read(put(tmp_path, HEADER + song(1) + song(2).replace("one", '"one" and') + song(3)))
    assert songs.songs["song"].to_list() == ["Song 1", "Song 3"]
    assert faults(songs)[0][0] == 8
    assert "a quote inside the text is not doubled (line 8" in songs.rejects[0].reason
    assert songs.rejects[0].reason.endswith("it spoiled 6 lines")


def test_a_missing_opening_quote_is_one_reject(tmp_path: Path) -> None:
    """The lines that it leaves bare are set aside together, even those with as many commas as a row."""
    songs = read(put(tmp_path, HEADER + song(1) + song(2).replace(',"', ",") + song(3)))
    assert songs.songs["song"].to_list() == ["Song 1", "Song 3"]
    assert faults(songs) == [(8, "the quote that opens this text is missing; it spoiled 6 lines")]


def test_rows_without_quotes_stand_among_quoted_ones(tmp_path: Path) -> None:
    """One-line texts need no quotes, even right before a row whose quotes are broken."""
    bare = "".join(f"Ann,Bare {number},/l,la {number}\r\n" for number in range(40))
    songs = read(put(tmp_path, HEADER + song(1) + bare + song(2).replace("one", '"one" and') + bare + song(3)))
    assert len(songs.songs) == 82
    assert len(songs.rejects) == 1


def test_one_line_rows_after_a_broken_one_are_kept(tmp_path: Path) -> None:
    """In a file without line breaks in its texts, a broken quote costs its own line."""
    songs = read(put(tmp_path, 'song,text\none,"la\ntwo,lu\nthree,lo\n'))
    assert songs.songs["song"].to_list() == ["two", "three"]
    assert [reject.line for reject in songs.rejects] == [2]


def test_bad_json_lines_are_set_aside(tmp_path: Path) -> None:
    """Broken JSON, a text that is no string, no text at all, an array: each named by its line."""
    lines = b'{"text": "la"}\n{"text": 5}\n{"text"\n\n{"lyric": "lu"}\n{"words": "x"}\n["x"]\n{"text": "\xe9"}\n'
    songs = read(put(tmp_path, lines, "songs.jsonl"))
    assert songs.songs["line"].to_list() == [1, 5]
    assert [line for line, _ in faults(songs)] == [2, 3, 6, 7, 8]
    assert faults(songs)[0][1] == "has a text that is not a string but int"
    assert "UTF-8" in faults(songs)[-1][1]


def test_too_many_rejects_stop_with_the_first(tmp_path: Path) -> None:
    """Beyond `corpus.max_rejects` there are no songs but one line: how many, the first, the remedy."""
    path = put(tmp_path, "song,text\na,la\nb\nc\n")
    assert len(read(path, max_rejects=2).rejects) == 2
    with pytest.raises(CorpusError, match=r"2 rows .*max_rejects = 1; the first: songs.csv:3 has 1 column .*mend"):
        read(path, max_rejects=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"artist,song\nx,y\n", "no text column; columns found: artist, song; name one of them text"),
        ("a.csv", b"", "no text column; columns found: none"),
        ("a.jsonl", b'{"words": "la"}\n', "columns found: words"),
        ("a.csv", b"artist,text\r\n", "there is no song in .*a.csv; give a file"),
        ("a.jsonl", b"\n", "there is no song in"),
        ("a.csv", b'text\n""\n', r"there is no song in .* \(1 row set aside, the first: a.csv:2 has no text\)"),
        ("a.csv", bytes(range(256)) * 9, "binary file"),
        ("a.csv", "artist,text\nx,y\n".encode("utf-16"), "another encoding; save it as text in UTF-8"),
        ("a.csv", b'"artist,text\nx,y\n', "the header is broken"),
        ("a.json", b'[{"text": "la"}]', "JSON array"),
        ("a.parquet", b"PAR1 or not", "cannot be read as Parquet"),
        ("a.txt", b"la la", r"no known kind; give a file that ends in \.csv"),
    ],
)
def test_files_of_no_use_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """What cannot be a song file is refused with fact, value and remedy."""
    path = put(tmp_path, content, name)
    with pytest.raises(CorpusError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_and_no_file_are_refused(tmp_path: Path) -> None:
    """A wrong name and an empty corpus are told apart."""
    with pytest.raises(CorpusError, match=r"gone.csv is not a file"):
        read(tmp_path / "gone.csv")
    with pytest.raises(CorpusError, match="no song in the corpus"):
        read()


def test_a_parquet_column_without_text_is_all_rejects(tmp_path: Path) -> None:
    """Numbers in the text column are no songs, and that is said by row."""
    pl.DataFrame({"text": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"2 rows set aside, the first: a.parquet:1 has a text that is not a string"):
        read(tmp_path / "a.parquet")


@given(st.lists(st.sampled_from(["text", ",", '"', "\n", "\r\n", "a", "é", "\udc80", " "]), max_size=60))
def test_no_row_is_lost(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    """Whatever the file, it is refused with a CorpusError, or every line that is not blank lies in a song
    or in the reach of a reject."""
    body = "song,text\n" + "".join(pieces)
    path = put(tmp_path_factory.mktemp("any"), body.encode(errors="surrogateescape"))
    try:
        songs = read(path)
    except CorpusError:
        return
    begun = sorted([*songs.songs["line"].to_list(), *(reject.line for reject in songs.rejects)])
    assert len(begun) == len(set(begun))
    assert begun[0] == next(i for i, line in enumerate(path.open("rb"), start=1) if i > 1 and line.strip(b"\r\n"))
