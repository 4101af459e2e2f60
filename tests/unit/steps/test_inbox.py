"""The watched folder: whole files go into the corpus once, whatever is killed; others wait or are refused."""

import pytest

from lyrics_lm import params, versioning
from lyrics_lm.corpus import sample
from lyrics_lm.steps import inbox, ledger
from lyrics_lm.steps.data_add import data_add
from workspaces import git, make_workspace


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = make_workspace(tmp_path_factory.mktemp("inbox") / "mine", songs=40, **{"drift.debounce": 0})
    (root / inbox.INBOX).mkdir(parents=True)
    return params.load(root)


def lay(settings, name, songs=5, seed=2):
    path = settings.root / inbox.INBOX / name
    sample.write(path, songs=songs, seed=seed)
    return path


def take(settings):
    said = []
    inbox.take(settings, said.append)
    return said


def test_a_whole_file_is_taken_in_and_committed(settings):
    """The pointer moves in a commit of its own, edits under way are not swept along, and the file leaves the inbox."""
    (settings.root / "params.yaml").write_text((settings.root / "params.yaml").read_text() + "# an edit\n")
    before = versioning.committed(settings.root)
    file = lay(settings, "new.csv")
    assert "new songs" in take(settings)[0]
    after = versioning.committed(settings.root)
    assert after.corpus != before.corpus
    assert after.inputs in ledger.read(settings.home).by_itself
    assert "params.yaml" in git(settings.root, "status", "--porcelain")
    assert git(settings.root, "show", "--stat", "--format=").count("|") == 1
    assert not file.exists()
    assert (file.parent / "taken" / "new.csv").is_file()


def test_what_a_kill_left_half_done_is_ended(settings):
    """Killed between adding and committing, the next call commits; nothing is added twice."""
    file = lay(settings, "killed.csv", seed=3)
    data_add(settings, [file])
    songs = len(versioning.song_files(settings.root))
    assert take(settings) == ["data/inbox/killed.csv: taken in"]
    assert len(versioning.song_files(settings.root)) == songs
    assert git(settings.root, "status", "--porcelain", "--", versioning.POINTER) == ""


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("bad.csv", "artist,song\na,b\n", "no text column"), ("image.png", "not songs", "no known kind")],
)
def test_what_cannot_be_used_is_set_aside_with_the_reason(settings, name, content, reason):
    """A refused file says beside itself what is wrong, and is not tried for ever."""
    file = settings.root / inbox.INBOX / name
    file.write_text(content)
    assert "was refused" in take(settings)[0]
    assert reason in (file.parent / "refused" / f"{name}.why.txt").read_text()
    assert take(settings) == []


def test_songs_that_are_known_already_are_refused(settings):
    """A file that brings nothing moves no digest."""
    lay(settings, "again.csv", seed=3)
    assert "has every song" in take(settings)[0]


def test_a_file_being_written_waits(settings):
    """While it is open for writing, has a passing name, or was touched just now, it stays."""
    file = lay(settings, "open.csv", seed=5)
    with open(file, "a"):
        assert take(settings) == []
    lay(settings, "half.csv.part", seed=6)
    patient = settings.params.model_copy(update={"drift": params.DriftParams(debounce=60)})
    assert take(params.Settings(settings.root, settings.home, None, patient)) == []
    assert len(take(settings)) == 1


def test_a_link_in_the_inbox_is_refused(settings, tmp_path):
    """Whoever may lay files there gets no other file of this machine read; what it leads to stays as it was."""
    sample.write(tmp_path / "private.csv", songs=5, seed=9)
    before = versioning.committed(settings.root).corpus
    for name, leads in (("link.csv", "private.csv"), ("lost.csv", "nowhere.csv")):
        (settings.root / inbox.INBOX / name).symlink_to(tmp_path / leads)
    said = sorted(take(settings))
    assert [line.partition(" was refused: it is a link")[0] for line in said] == [
        f"{inbox.INBOX}/{name}" for name in ("link.csv", "lost.csv")
    ]
    assert take(settings) == []
    assert versioning.committed(settings.root).corpus == before
    refused = settings.root / inbox.INBOX / inbox.REFUSED
    assert "lay the file itself" in (refused / "link.csv.why.txt").read_text()
    assert (tmp_path / "private.csv").is_file()
