import stat

import pytest

from lyrics_lm import keys
from lyrics_lm.errors import KeysError


def test_a_key_is_shown_once_and_kept_by_its_hash(tmp_path):
    """Its text is nowhere on the disk; what is there can be read by its owner alone."""
    text = keys.add(tmp_path, "ann")
    [kept] = keys.every(tmp_path)
    assert (kept.name, kept.sha256) == ("ann", keys.digest(text))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(text not in file.read_text() for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_every_key_opens_and_no_other_text_does(tmp_path):
    """Several keys, each by itself; half a key, its hash and nothing are refused."""
    texts = [keys.add(tmp_path, name) for name in ("ann", "bob")]
    known = [key.sha256 for key in keys.every(tmp_path)]
    assert all(keys.opens(text, known) for text in texts)
    assert not any(keys.opens(text, known) for text in ("", texts[0][:-1], texts[0] + " ", *known, "☃"))
    assert not keys.opens(texts[0], [])


@pytest.mark.parametrize("name", ["", ".", "..", "../ann", "a/b", "-x", "a" * 65, "ann\n"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    """A name becomes a file: none can lie elsewhere."""
    with pytest.raises(KeysError, match="is no name for a key"):
        keys.add(tmp_path, name)
    assert not any(tmp_path.rglob("*"))


def test_a_name_is_given_once_and_taken_back_once(tmp_path):
    """A second key of that name, and the removal of none, say what there is."""
    keys.add(tmp_path, "ann")
    with pytest.raises(KeysError, match="there is a key ann already"):
        keys.add(tmp_path, "ann")
    keys.remove(tmp_path, "ann")
    with pytest.raises(KeysError, match="there is no key ann; there is: none"):
        keys.remove(tmp_path, "ann")
