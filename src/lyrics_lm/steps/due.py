"""What is to be trained: the bigram while nothing was ever registered, then a commit whose inputs never were."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lyrics_lm import versioning

if TYPE_CHECKING:
    from lyrics_lm.registry.runs import Run


@dataclass(frozen=True)
class Due:
    """A training to be run: what is committed, and the settings that differ from it."""

    snapshot: versioning.Snapshot
    assignments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        commit = (self.snapshot.commit or "")[:7]
        return f"the bigram of commit {commit}" if self.assignments else f"commit {commit}"


def find(uri: str, snapshot: versioning.Snapshot, *, bigram_tried: bool) -> "Due | Run":
    """The training that is due, or the run in which these inputs were trained, or failed to."""
    from lyrics_lm.registry import runs, versions

    if not bigram_tried and not versions.every(uri):
        return Due(snapshot, ("model.name=bigram",))
    return runs.of_inputs(uri, snapshot.inputs) or Due(snapshot)
