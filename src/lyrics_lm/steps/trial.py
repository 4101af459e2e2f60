"""The trial of a version, and the watch over one that took over: evidence from live traffic, then the verdict on it."""

import contextlib
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from filelock import FileLock, Timeout

from lyrics_lm import bundle, durable, rollout, traffic
from lyrics_lm.deployment.local import Local
from lyrics_lm.errors import ConformanceError, DeliveryError
from lyrics_lm.evaluation import trial as trials
from lyrics_lm.evaluation.trial import Decision, Policy, Trial
from lyrics_lm.params import Settings
from lyrics_lm.records import Deployment, LiveVersion, TrafficRecord, TrialReport, from_json, to_json
from lyrics_lm.rollout import Rollout
from lyrics_lm.steps import scores

TARGET = "local"  # the one whose traffic is recorded
LINE = "trials/line.json"  # for the page
_BEGINS = ("canary", "shadow")
_GUARDED = ("deploy", "promote")
_MARGIN_SECONDS = 1.0  # records of one batch come into the log together
_REPLAYED = 500  # earlier prompts that a shadow is asked
_FEWEST_CHARS = 8  # of a prompt that tells anything
_FEWEST_TOKENS = 20  # of an answer that tells how fast a version is
_MIRRORED, _MIRRORED_TOKENS = 10, 40  # answers of a shadow at each look
_CRASH_LOOP_SECONDS = 120.0


def attend(settings: Settings, uri: str, say: Callable[[str], None]) -> None:
    """Look once: gather what came since the last look, decide, and carry it out. May be killed anywhere. Where
    another process looks, this one does not."""
    lock = settings.home / "trials" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Timeout), FileLock(lock, timeout=0):
        _attend(settings, uri, say)


def _attend(settings: Settings, uri: str, say: Callable[[str], None]) -> None:
    target = Local(settings.home)
    state = target.describe()
    found = _subject(state)
    if found is None:
        (settings.home / LINE).unlink(missing_ok=True)
        return
    began, champion, challenger = found
    policy = _policy(settings)
    known = _known(settings, began, champion, challenger, policy)
    trial = _gathered(settings, known, champion, challenger)
    if state.challenger:
        decision = trials.decide(trial, time.time(), policy)
    else:
        wrong = trials.fault(trial, policy)
        decision = Decision("rollback", 0, wrong) if wrong else Decision("hold", 100, "nothing is wrong with it")
    if trial != known or not (settings.home / LINE).exists():
        _keep(settings, trial, challenger, decision)
    if decision.action != "hold":
        _carry_out(settings, uri, target, challenger, decision, say)


def evidence(home: Path) -> TrialReport | None:
    """What is known of the running trial; None without one."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return from_json((home / LINE).read_bytes(), TrialReport)
    return None


def _subject(state: Rollout) -> tuple[Deployment, LiveVersion, LiveVersion] | None:
    """The deployment that is judged, what served before it, and what it brought."""
    if state.current is None:
        return None
    if state.challenger and state.settled:
        began = next(one for one in reversed(state.history) if one.action in _BEGINS)
        return began, state.settled.versions[0], state.challenger
    if state.current.action in _GUARDED:
        with contextlib.suppress(DeliveryError):  # nothing to go back to
            return state.current, state.previous().versions[0], state.current.versions[0]
    return None


def _policy(settings: Settings) -> Policy:
    wanted = settings.params.delivery
    return Policy(
        max_errors=wanted.max_errors,
        slower=settings.params.gates.latency_ratio,
        max_pace=wanted.max_ms_per_token,
        decide_within=wanted.decide_within,
        undecided=wanted.undecided,
        approval=wanted.approval == "required",
    )


def _file(settings: Settings, id: str) -> Path:
    return settings.home / "trials" / f"{id}.json"


def _known(
    settings: Settings, began: Deployment, champion: LiveVersion, challenger: LiveVersion, policy: Policy
) -> Trial:
    """The trial as the last look left it, at the share that the challenger has now."""
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        kept = from_json(_file(settings, began.id).read_bytes(), Trial)
        return trials.widened(kept, challenger.share)
    trial = trials.begin(began.id, champion.digest, challenger.digest, began.time, challenger.share, policy)
    learnt = settings.params.drift.learn_from_traffic  # then it may have seen them in training
    return replace(trial, written=0.0) if challenger.share == 0 and not learnt else trial


def _gathered(settings: Settings, trial: Trial, champion: LiveVersion, challenger: LiveVersion) -> Trial:
    """With the records that came into the log since; on trial, their prompts are given to both versions."""
    earlier = trial.written < trial.began
    fresh = [*traffic.read(settings.home / "traffic", after=trial.written, until=time.time() - _MARGIN_SECONDS)]
    if earlier:
        fresh = fresh[-_REPLAYED:]
    written = fresh[-1].written if fresh else max(trial.written, trial.began)
    trial = replace(trial, written=written, restarts=_restarts(settings))
    answers = [one for one in fresh if one.digest == trial.challenger and one.finish != "cancelled"]
    usual = [one for one in fresh if one.digest == trial.champion]
    trial = trials.answered(trial, [one.finish == "error" for one in answers], _paces(answers), _paces(usual))
    if challenger.share == 100 or settings.params.traffic.store_text != "full":
        return trial
    prompts = {zlib.crc32(one.prompt.encode()): one.prompt for one in fresh if len(one.prompt) >= _FEWEST_CHARS}
    new = {key: prompt for key, prompt in prompts.items() if key not in set(trial.seen)}
    if not new:
        return trial
    try:
        ours = _bits(challenger, [*new.values()])
    except ConformanceError:  # of all together: those that it cannot read are failures, as they would be to a client
        failing = [key for key, text in new.items() if not _reads(challenger, text)]
        return replace(trials.answered(trial, [True] * len(failing), [], []), seen=(*trial.seen, *new))
    trial = trials.compared(trial, [*new], ours - _bits(champion, [*new.values()]))
    return _mirrored(trial, champion, challenger, [*new.values()][-_MIRRORED:]) if challenger.share == 0 else trial


def _paces(records: Sequence[TrafficRecord]) -> list[float]:
    """Milliseconds per token of the answers that are long enough to tell."""
    return [1000 * one.seconds / one.tokens for one in records if one.tokens >= _FEWEST_TOKENS]


def _reads(version: LiveVersion, text: str) -> bool:
    try:
        _bits(version, [text])
    except ConformanceError:
        return False
    return True


def _bits(version: LiveVersion, texts: list[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Bits per character of each text."""
    report = scores.score_texts(bundle.read(Path(version.path)), texts, "live prompts")
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = np.array(report.bits) / np.array(report.chars)
    return found


def _mirrored(trial: Trial, champion: LiveVersion, challenger: LiveVersion, texts: list[str]) -> Trial:
    """What the shadow answers to prompts that the champion was asked; nobody sees it."""
    from lyrics_lm.inference.generator import Generator
    from lyrics_lm.inference.stream import Sampling

    def times(version: LiveVersion) -> list[float | None]:
        generator = Generator(bundle.read(Path(version.path)))
        sampling, found = Sampling(max_tokens=_MIRRORED_TOKENS), list[float | None]()
        for text in texts:
            began = time.perf_counter()
            try:
                tokens = sum(piece.tokens for piece in generator.generate(generator.vocabulary.encode(text), sampling))
            except Exception:  # whatever it is, it would have failed a client
                found.append(None)
            else:
                found.append(1000 * (time.perf_counter() - began) / max(1, tokens))
        return found

    ours, theirs = times(challenger), times(champion)
    paces = [one for one in ours if one is not None]
    return trials.answered(trial, [one is None for one in ours], paces, [one for one in theirs if one is not None])


def _restarts(settings: Settings) -> int:
    """How many processes died soon after they had taken up what serves now."""
    current = rollout.read(settings.home, TARGET).current
    since = max(current.time if current else 0.0, time.time() - _CRASH_LOOP_SECONDS)
    return Local(settings.home).died(since)


def _keep(settings: Settings, trial: Trial, challenger: LiveVersion, decision: Decision) -> None:
    durable.write(_file(settings, trial.id), to_json(trial))
    report = TrialReport(
        version=challenger.version,
        share=challenger.share,
        prompts=trial.prompts,
        difference=trial.mean,
        better=trial.better.capital,
        worse=trial.worse.capital,
        proof=1 / trials.LEVEL,
        answers=trial.answers,
        errors=trial.errors,
        slower=trial.slower,
        reason=decision.reason,
    )
    durable.write(settings.home / LINE, to_json(report))


def _carry_out(
    settings: Settings,
    uri: str,
    target: Local,
    challenger: LiveVersion,
    decision: Decision,
    say: Callable[[str], None],
) -> None:
    from lyrics_lm.steps.record import record

    if decision.action == "rollback":
        target.undo(decision.reason)
        said = f"version {challenger.version} was rolled back: {decision.reason}"
    else:
        target.shift(decision.share, decision.reason)
        words = {"promote": "is live", "abort": "was sent away", "widen": f"is tried with {decision.share}%"}
        said = f"version {challenger.version} {words[decision.action]}: {decision.reason}"
    say(said)
    record(uri, settings.home, TARGET)
