"""What undo goes back to, and what of the past may be forgotten."""

import pytest

from lyrics_lm import rollout
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import LiveVersion, Verdict

VERDICT = Verdict("0" * 64, None, 1.0, ())


def version(number):
    return LiveVersion(number, f"{number:064x}", "tiny", "by hand", 3.0, f"bento:{number}", "/nowhere")


@pytest.fixture
def home(tmp_path):
    """Versions 1 to 5 took over from one another."""
    for number in range(1, 6):
        rollout.deploy(tmp_path, "local", version(number), "better", VERDICT)
    return tmp_path


def numbers(deployments):
    return [deployment.versions[0].version for deployment in deployments]


def test_a_chain_is_what_undos_bring_back(home):
    """One after the other, and no further than the first."""
    standing = rollout.read(home, "local")
    assert numbers(standing.chain(2)) == [5, 4, 3]
    assert numbers(standing.chain(9)) == [5, 4, 3, 2, 1]
    for expected in (4, 3):
        rollout.undo(home, "local")
        assert rollout.read(home, "local").live.version == expected
    assert numbers(rollout.read(home, "local").chain(9)) == [3, 2, 1]


@pytest.mark.parametrize("undone", [0, 1, 3])
def test_what_is_forgotten_is_what_no_undo_reaches(home, undone):
    """As many undos as were kept work as before, also after some were made; then it says that there is nothing."""
    for _ in range(undone):
        rollout.undo(home, "local")
    before = numbers(rollout.read(home, "local").chain(1))
    rollout.shorten(home, "local", 1)
    shortened = rollout.read(home, "local")
    assert shortened.live.version == before[0]
    rollout.undo(home, "local")
    assert rollout.read(home, "local").live.version == before[1]
    rollout.shorten(home, "local", 0)
    with pytest.raises(DeliveryError, match="nothing to undo"):
        rollout.undo(home, "local")


def test_with_nothing_to_forget_the_file_stays_as_it_is(home):
    file = rollout.path(home, "local")
    before = file.stat().st_mtime_ns, file.read_bytes()
    rollout.shorten(home, "local", 9)
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
