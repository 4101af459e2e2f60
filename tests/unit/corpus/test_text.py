import subprocess
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from lyrics_lm.corpus.text import SONG_BREAK, clean


def test_line_ends_become_newlines() -> None:
    """Files from Windows, from old Macs and from Unix give the same text."""
    assert clean("one\r\ntwo\rthree\nfour") == "one\ntwo\nthree\nfour"


def test_trailing_blanks_go_and_indents_stay() -> None:
    """Blanks at the end of a line are dropped, those at its beginning are the poet's."""
    assert clean("one  \r\n  two\t \r\n") == "one\n  two"


def test_gaps_shrink_to_one_empty_line() -> None:
    """However many empty or blank lines stand between two verses, one is left; none at either end."""
    assert clean("\n \n\none\n \t\n\n\n\ntwo\n\n") == "one\n\ntwo"


def test_composed_and_decomposed_letters_are_one() -> None:
    """An accent typed as its own character joins its letter."""
    assert clean("cafe\u0301") == "caf\u00e9"


@given(st.text())
def test_clean_is_a_fixed_point_without_a_song_break(text: str) -> None:
    """Clean text stays as it is, is in NFC, and can never be mistaken for two songs."""
    once = clean(text)
    assert clean(once) == once
    assert SONG_BREAK not in once
    assert unicodedata.is_normalized("NFC", once)


def test_the_serving_side_can_import_it_alone() -> None:
    """Importing the clean form of a text loads no data library."""
    code = "import sys, lyrics_lm.corpus.text; print({'polars', 'numpy', 'tokenizers', 'pydantic'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.strip() == b"set()"
