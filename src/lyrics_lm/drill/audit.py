"""Whether a loop that has come to rest is right: one truth everywhere, each deployment once, each request on record."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lyrics_lm import rollout, traffic
from lyrics_lm.drill.load import Answer, mixed
from lyrics_lm.drill.loop import Loop, NotRecovered
from lyrics_lm.registry import deployments, versions

_SUPERVISED = ("service", "mlflow", "controller")
_ASKED = 8  # times: often enough to meet every worker
_LATE_SECONDS = 4.0  # after which an answer is in the traffic log


def faults(loop: Loop, answers: Sequence[Answer]) -> list[str]:
    """What is not as it must be, in words; nothing where all is right."""
    try:
        loop.wait_idle()
    except NotRecovered as error:
        return [str(error)]
    state, found = rollout.read(loop.home, "local"), list[str]()
    serves = {loop.live() for _ in range(_ASKED)}
    wanted = state.live.digest if state.live else None
    if serves != {wanted}:
        found.append(f"{sorted(map(str, serves))} serve, not {wanted}")
    champion = versions.champion(loop.uri)
    if state.live and (champion is None or champion.version != state.live.version):
        found.append(f"the champion is version {champion.version if champion else None}, not {state.live.version}")
    found += _records(loop)
    found += [f"bundle {digest[:12]} gave more than one text for one seed" for digest in mixed(answers)]
    found += [f"{role} does not run" for role in _SUPERVISED if not loop.processes(role)]
    return found


def _records(loop: Loop) -> list[str]:
    """Deployments that are lost or doubled in MLflow, and bundles that are more than one version."""
    on_record = Counter(one.id for one in deployments.every(loop.uri, "local"))
    history = Counter(one.id for one in rollout.read(loop.home, "local").history)
    digests = Counter(version.digest for version in versions.every(loop.uri) if version.digest)
    return [
        *(f"deployment {id} is not on record" for id in history - on_record),
        *(f"deployment {id} is on record {times} times" for id, times in on_record.items() if times > 1),
        *(f"bundle {digest[:12]} is {times} versions" for digest, times in digests.items() if times > 1),
    ]


@dataclass(frozen=True)
class Log:
    """Answered requests that are not in the traffic log, and those that are there twice."""

    lost: int
    doubled: int


def log(loop: Loop, answers: Sequence[Answer]) -> Log:
    """Compare what was answered with what was logged; waits for what is written a second late."""
    asked = {answer.request for answer in answers if not answer.error}

    def logged() -> Counter[str]:
        return Counter(one.request for one in traffic.read(loop.home / "traffic") if one.request in asked)

    with contextlib.suppress(NotRecovered):  # what is missing is counted below
        loop.wait("every answer to be logged", lambda: asked <= logged().keys(), _LATE_SECONDS, every=0.5)
    seen = logged()
    return Log(len(asked - seen.keys()), sum(times > 1 for times in seen.values()))
