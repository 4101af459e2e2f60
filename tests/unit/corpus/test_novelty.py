"""What new songs bring is told by numbers a person can read."""

from lyrics_lm.corpus.novelty import novelty

KNOWN = ["love is all i know and the night goes on and on", "come home to me before the morning light is gone"]


def test_songs_like_known_ones_bring_nothing():
    """A near-copy is counted as one, with no new character and hardly any distance."""
    seen = novelty(KNOWN, [KNOWN[0] + " oh"], 0.5)
    assert seen.near_duplicates == 1
    assert seen.unknown == ""
    assert seen.distance < novelty(KNOWN, ["quarks entangle photons"], 0.5).distance


def test_songs_of_another_world_are_far():
    """Nothing in common is a distance of 1, and characters that the corpus never used are shown."""
    seen = novelty(KNOWN, ["ночь длинна", "длинна ночь ё"], 0.5)
    assert seen.near_duplicates == 0
    assert abs(seen.distance - 1) < 1e-9
    assert seen.unknown[0] == "н"
