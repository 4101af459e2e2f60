import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from lyrics_lm.corpus.near_duplicates import near_pairs
from lyrics_lm.corpus.splits import EXCLUDED, SPLITS, TEST, TRAIN, VALIDATION, assign


def verse(number: int, length: int = 60) -> str:
    """A text unlike that of any other number."""
    letters = hashlib.sha256(str(number).encode()).hexdigest() * 4
    return " ".join(letters[i : i + 4] + str(number) for i in range(length))


def split_of(text: str) -> str:
    return assign([text], 0.5).splits[0]


def numbers_in(split: str, count: int) -> list[int]:
    """Numbers whose verses the hash puts in that split."""
    return [number for number in range(2000) if split_of(verse(number)) == split][:count]


def test_shares_are_ninety_five_five() -> None:
    """Of many unlike songs about 90% train, 5% validate and 5% test."""
    splits = assign([verse(number) for number in range(4000)], 0.5).splits
    shares = {split: splits.count(split) / 4000 for split in SPLITS}
    assert abs(shares[TRAIN] - 0.90) < 0.02
    assert abs(shares[VALIDATION] - 0.05) < 0.012
    assert abs(shares[TEST] - 0.05) < 0.012


def test_splits_are_the_same_on_every_machine() -> None:
    """The hash of a text is no matter of the process, the platform or the day."""
    assert numbers_in(TEST, 3) == [6, 7, 29]


def test_a_cover_follows_its_original() -> None:
    """Other capitals, punctuation and a few other words do not take a song out of its split."""
    for number in numbers_in(TEST, 3):
        original = verse(number)
        cover = original.upper().replace(" ", ", ", 5) + "\nlive tonight"
        assignment = assign([original, cover, verse(5000)], 0.5)
        assert assignment.splits[:2] == (TEST, TEST)
        assert assignment.duplicates == 1


def test_an_exact_duplicate_is_kept_and_counted() -> None:
    """A song that comes twice stays twice, in one split."""
    assignment = assign([verse(1), verse(2), verse(1).upper(), verse(1)], 0.5)
    assert len({assignment.splits[i] for i in (0, 2, 3)}) == 1
    assert assignment.duplicates == 2


def test_a_song_between_two_splits_is_excluded() -> None:
    """A medley of a training and a test song would leak wherever it went; so would its reprint."""
    one, other = verse(numbers_in(TRAIN, 1)[0]), verse(numbers_in(TEST, 1)[0])
    medley = f"{one} {other}"
    assignment = assign([one, other, medley, medley], 0.4)
    assert assignment.splits == (TRAIN, TEST, EXCLUDED, EXCLUDED)


def test_a_song_like_an_excluded_one_alone_is_placed_by_its_hash() -> None:
    """An excluded song is in no split, so nothing can leak from it."""
    one, other = verse(numbers_in(TRAIN, 1)[0]), verse(numbers_in(TEST, 1)[0])
    medley = f"{one} {other}"
    rest = verse(7)
    late = f"{' '.join(one.split()[30:])} {' '.join(other.split()[:30])} {rest}"
    assert near_pairs([one, other, late], 0.3).tolist() == []
    assert near_pairs([medley, late], 0.3).tolist() == [[0, 1]]
    splits = assign([one, other, medley, late], 0.3).splits
    assert splits[2:] == (EXCLUDED, split_of(late))


@st.composite
def corpora(draw: st.DrawFn) -> list[str]:
    """Songs of which many resemble an earlier one, more or less."""
    songs: list[str] = []
    for number in range(draw(st.integers(1, 14))):
        words = verse(draw(st.integers(0, 1000)), 24).split()
        for _ in range(draw(st.integers(0, 2)) if songs else 0):
            source = draw(st.sampled_from(songs)).split()
            cut = draw(st.integers(0, len(source)))
            words = source[:cut] + words[: draw(st.integers(0, 12))]
        songs.append(" ".join(words) or str(number))
    return songs


@settings(max_examples=60, deadline=None)
@given(corpora(), st.data())
def test_adding_songs_never_moves_an_old_one(songs: list[str], data: st.DataObject) -> None:
    """The splits of a corpus are the beginning of the splits of any corpus that it grows into."""
    before = data.draw(st.integers(0, len(songs)))
    assert assign(songs, 0.5).splits[:before] == assign(songs[:before], 0.5).splits


@settings(max_examples=60, deadline=None)
@given(corpora())
def test_no_pair_of_near_duplicates_is_torn(songs: list[str]) -> None:
    """Two songs that count as one are never in two splits, unless one of them is in none."""
    splits = assign(songs, 0.5).splits
    for first, second in near_pairs(songs, 0.5).tolist():
        assert splits[first] == splits[second] or EXCLUDED in (splits[first], splits[second])
