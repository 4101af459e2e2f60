"""Bring MLflow's record up to what the rollout says: deployments written down, the champion's alias moved."""

from pathlib import Path

from lyrics_lm import durable, rollout

_JUDGES = "local"


def record(uri: str, home: Path, target: str) -> int:
    """Record every deployment that is not on record yet; returns how many that were.

    A version that was deployed is marked as delivered here too: whoever deployed it may have been
    killed before saying so, and judged against itself it would be turned down.
    The champion, which the next versions are measured against, is what serves locally; where nothing does, what serves
    at the target that changed last. An undo elsewhere moves no yardstick.
    The rollout file is written first, at once, even while MLflow is away; this follows when it can.
    """
    from lyrics_lm.registry import deployments, versions

    history = rollout.read(home, target).history
    mark = rollout.path(home, target).with_suffix(".recorded")
    if not history or (mark.is_file() and mark.read_text() == history[-1].id):
        return 0
    known = deployments.recorded(uri)
    missing = [deployment for deployment in history if deployment.id not in known]
    for deployment in missing:
        if deployment.action in ("deploy", "canary", "shadow"):
            versions.mark_delivered(uri, deployment.versions[-1].version, deployment.id)
        deployments.record(uri, deployment)
    if target == _JUDGES or rollout.read(home, _JUDGES).current is None:
        versions.set_champion(uri, history[-1].versions[0].version)
    durable.write(mark, history[-1].id.encode())
    return len(missing)
