"""`lyrics-lm gc`: Bentos, bundles, versions and runs that nothing live, undoable or waiting needs make room."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lyrics_lm import processes, rollout, versioning
from lyrics_lm.deployment.target import one_at_a_time
from lyrics_lm.params import Settings
from lyrics_lm.steps import deliver, scores
from lyrics_lm.steps.record import record

if TYPE_CHECKING:
    from lyrics_lm.registry.cleaning import Spent

KEEP = 10  # deployments back, for an undo
_SHORT = 12  # digits of a digest in a name; scores are kept under sixteen
_STORES = ("bentoml/models/lyrics-lm", "bentoml/bentos/lyrics-lm", "images")


@dataclass(frozen=True)
class Room:
    """Something that goes: what it is, its name, and its bytes."""

    kind: str
    name: str
    size: int


@dataclass(frozen=True)
class Cleaned:
    """What went, or would; `kept` tells of each version why it stays."""

    gone: tuple[Room, ...]
    kept: dict[int, str]
    dry: bool

    @property
    def size(self) -> int:
        """Bytes of all that goes."""
        return sum(room.size for room in self.gone)


@dataclass
class _Needed:
    """Versions and digests that stay, each with its first reason."""

    versions: dict[int, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    deployments: set[str] = field(default_factory=set)

    def add(self, version: int, digest: str | None, reason: str) -> None:
        self.versions.setdefault(version, reason)
        if digest:
            self.digests.setdefault(digest, reason)


def gc(settings: Settings, *, keep: int = KEEP, dry: bool = False) -> Cleaned:
    """Take away what nobody needs; `keep` deployments of each target stay undoable. Where the registry is a team's,
    only this machine's files. Raises `DeliveryError` while a delivery runs, unless `dry`."""
    from lyrics_lm.registry import cleaning
    from lyrics_lm.registry.server import tracking

    with nullcontext() if dry else deliver.alone(settings), tracking(settings) as uri:
        needed = _needed(settings, uri, keep)
        files = dict(_files(settings, needed))
        runs = _runs(settings, uri, needed)
        gone = (*files.values(), *runs.values())
        if not dry:
            for path in files:
                _remove(path)
            cleaning.remove(uri, settings.home, list(runs))
            _forget_old(settings.home, uri, keep)
    return Cleaned(gone, dict(sorted(needed.versions.items())), dry)


def describe(cleaned: Cleaned) -> str:
    """In lines for a person."""
    word = "would make" if cleaned.dry else "made"
    lines = [f"{room.size / 1e6:>9.1f} MB  {room.kind} {room.name}" for room in cleaned.gone]
    stays = [f"version {number} stays: {reason}" for number, reason in cleaned.kept.items()]
    return "\n".join([*lines, *stays, f"{word} {cleaned.size / 1e6:.1f} MB of room"])


def _needed(settings: Settings, uri: str, keep: int) -> _Needed:
    from lyrics_lm.registry import versions

    needed = _Needed()
    for target in _targets(settings.home):
        state = rollout.read(settings.home, target)
        for back, deployment in enumerate(state.chain(keep)):
            reason = f"an undo at {target} brings it back" if back else f"it serves at {target}"
            needed.deployments.add(deployment.id)
            for live in deployment.versions:
                needed.add(live.version, live.digest, reason)
    champion = versions.champion(uri)
    if champion:
        needed.add(champion.version, champion.digest, "it is the champion")
    for version in versions.every(uri):
        if versions.is_pending(version):
            needed.add(version.version, version.digest, "it waits")
        elif version.verdict and champion and version.verdict.champion == champion.digest:
            needed.add(version.version, None, "it was tried against the champion: the gate counts such tries")
    return needed


def _targets(home: Path) -> list[str]:
    return sorted(file.stem for file in (home / "rollouts").glob("*.json"))


def _files(settings: Settings, needed: _Needed) -> Iterator[tuple[Path, Room]]:
    """Files under the home that nobody needs; those under way (drafts, locks) are left to their owners."""
    home = settings.home
    short = {digest[:_SHORT] for digest in needed.digests}
    for store in _STORES:
        for path in sorted((home / store).glob("[0-9a-f]*")):
            if path.name[:_SHORT] not in short:
                yield path, Room("Bento" if "bentos" in store else "bundle", path.name, _size(path))
    for path in sorted((home / "functions").glob("[0-9a-f]*.zip")):
        if path.name[:_SHORT] not in short:
            yield path, Room("function package", path.name, _size(path))
    for path in sorted((home / "bentoml" / "built").glob("lyrics-lm-*")):
        if path.name.removeprefix("lyrics-lm-") not in short:
            yield path, Room("mark", path.name, 0)
    for path in sorted((home / "candidates").glob("[0-9]*")):
        if int(path.name) not in needed.versions:
            yield path, Room("download", path.name, _size(path))
    for path in sorted((home / "trials").glob("[0-9a-f]*.json")):
        if path.stem not in needed.deployments:
            yield path, Room("trial", path.stem, _size(path))
    yield from _remade(settings, short)


def _remade(settings: Settings, short: set[str]) -> Iterator[tuple[Path, Room]]:
    """What would be made again if it were asked for: scores, prepared corpora, checkouts and checkpoints."""
    cache = settings.home / "cache"
    current = scores.current_dataset(settings).name
    for kind in ("score", "copying"):
        for path in sorted(cache.glob(f"{kind}-*.json")):
            if path.name.removeprefix(f"{kind}-")[:_SHORT] not in short:
                yield path, Room("score", path.name, _size(path))
    for path in sorted(cache.glob("dataset-*")):
        if path.name != current:
            yield path, Room("prepared corpus", path.name, _size(path))
    if not processes.leftovers(settings.home, "training"):
        for path in sorted((settings.home / "trees").glob("*")):
            yield path, Room("checkout", path.name, _size(path))
    mine = versioning.working(settings.root).inputs[:16]
    committed = versioning.committed(settings.root).inputs[:16]
    for path in sorted((settings.home / "checkpoints").glob("[0-9a-f]*")):
        if path.name[:16] not in (mine, committed):
            yield path, Room("checkpoint", path.name, _size(path))


def _runs(settings: Settings, uri: str, needed: _Needed) -> Mapping[str, Room]:
    """Training runs whose version went, by id; never the one that answers for what lies here, or is committed: it
    would be trained again."""
    from lyrics_lm.registry import cleaning, versions

    if settings.tracking_uri:
        return {}
    known = versions.every(uri)
    kept = {version.run for version in known if version.run and version.version in needed.versions}
    inputs = {versioning.working(settings.root).inputs, versioning.committed(settings.root).inputs}
    numbers = {version.run: version.version for version in known}
    found = cleaning.spent(uri, settings.home, kept, inputs)
    return {one.run: _spent(numbers.get(one.run), one) for one in found}


def _spent(version: int | None, run: "Spent") -> Room:
    return Room("run", run.run, run.size) if version is None else Room("version", str(version), run.size)


def _forget_old(home: Path, uri: str, keep: int) -> None:
    """A rollout's history keeps what an undo needs; MLflow has the record of all."""
    for target in _targets(home):
        with one_at_a_time(home, target):
            record(uri, home, target)
            rollout.shorten(home, target, keep)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
