"""What the controller does about drift: passes an alarm on, and answers it once with what is at hand."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from lyrics_lm import durable, rollout, versioning
from lyrics_lm.monitoring import lacking
from lyrics_lm.monitoring.monitor import Monitor
from lyrics_lm.monitoring.report import report
from lyrics_lm.monitoring.trigger import Decision, Situation, decide
from lyrics_lm.params import CorpusParams, Settings
from lyrics_lm.records import to_json
from lyrics_lm.steps import drift, inbox, ledger

if TYPE_CHECKING:
    from lyrics_lm.registry.versions import Version

_NOTIFY_SECONDS = 5.0
# An alarm may come after a dozen prompts; that many, or that many seconds, are waited for to judge an answer by.
_RIPE_PROMPTS = 50
_RIPE_SECONDS = 300.0
_FEWEST_PROMPTS = 20
_MOST_PROMPTS = 2000

Say = Callable[[str], None]


def alarm(settings: Settings, say: Say) -> Monitor | None:
    """The monitor of what is live, where it has proved a drift; said, and passed on, once."""
    if rollout.read(settings.home, "local").live is None:
        return None
    seen = drift.look(settings)
    if seen.finding is None:
        return None
    known = ledger.read(settings.home)
    if seen.deployment not in known.notified:
        say(cause(seen))
        _notify(settings, seen, say)
        ledger.write(settings.home, replace(known, notified=(*known.notified, seen.deployment)))
    return seen


def cause(seen: Monitor) -> str:
    """An alarm in one line."""
    found = seen.finding
    assert found is not None  # asked of alarms alone
    return (
        f"drift: {found.signal} is {found.direction} than before, since about request {found.since + 1} after the "
        f"reference (evidence {found.strength:.2g})"
    )


def decision(settings: Settings, uri: str, seen: Monitor | None, *, due: bool) -> Decision:
    """What is to be done now; `due` says whether the committed inputs were never trained."""
    known = ledger.read(settings.home)
    open_alarm = seen if seen and seen.deployment not in known.answered and _is_ripe(settings, seen) else None
    snapshot = versioning.committed(settings.root)
    ours = [entry for entry in known.trainings if entry.cause != "a commit"]
    return decide(
        Situation(
            due=due,
            by_itself=snapshot.inputs in known.by_itself,
            corpus=snapshot.corpus,
            alarm=cause(seen) if seen and (open_alarm or due) else None,
            reconsider=None if due or open_alarm is None else _turned_down(uri, known, open_alarm),
            prompts=settings.params.drift.learn_from_traffic
            and open_alarm is not None
            and open_alarm.deployment not in known.learnt,
            since_last=time.time() - ours[-1].time if ours else None,
            cooldown=settings.params.drift.cooldown,
        )
    )


def carry_out(settings: Settings, uri: str, seen: Monitor, decided: Decision, say: Say) -> None:
    """Everything but a training itself. Written down first or harmless to do again, so a kill changes nothing."""
    from lyrics_lm.registry import versions

    known = ledger.read(settings.home)
    if decided.action == "judge again":
        number = _turned_down(uri, known, seen)
        if number is not None:
            versions.reopen(uri, number)
            tried = (*known.reconsidered.get(seen.deployment, ()), number)
            ledger.write(settings.home, replace(known, reconsidered={**known.reconsidered, seen.deployment: tried}))
            say(f"judging version {number} again: {decided.cause}")
    elif decided.action == "learn from traffic":
        _learn(settings, seen, say)
    elif decided.action == "tell":
        said = _advice(settings, seen)
        ledger.write(settings.home, replace(known, answered={**known.answered, seen.deployment: said}))
        say(said)


def gate_prompts(settings: Settings) -> list[str]:
    """The drifted prompts to judge by, where a drift of what is live is proved; of those that may become training
    text, the half that never does."""
    if rollout.read(settings.home, "local").live is None:
        return []
    seen = drift.look(settings)
    prompts = drift.drifted_prompts(settings, seen) if seen.finding else []
    learnt = seen.deployment in ledger.read(settings.home).learnt
    judged = [prompt for prompt in prompts if not learnt or not _is_for_training(prompt)]
    return judged[-_MOST_PROMPTS:] if len(judged) >= _FEWEST_PROMPTS else []


def _is_ripe(settings: Settings, seen: Monitor) -> bool:
    waited = time.time() - (seen.alarmed or 0) >= _RIPE_SECONDS
    return waited or len(drift.drifted_prompts(settings, seen)) >= _RIPE_PROMPTS


def _turned_down(uri: str, known: ledger.Ledger, seen: Monitor) -> int | None:
    """The newest version that failed only by its quality against this champion and was trained on other songs."""
    from lyrics_lm.registry import runs, versions

    tried = known.reconsidered.get(seen.deployment, ())
    champion = versions.find(uri, seen.digest)

    def corpus(version: "Version | None") -> str | None:
        run = runs.get(uri, version.run) if version and version.run else None
        return run.tags.get("lyrics_lm.corpus") if run else None

    def fits(version: "Version") -> bool:
        verdict = version.verdict
        if verdict is None or verdict.passed or verdict.champion != seen.digest or version.version in tried:
            return False
        return [gate.gate for gate in verdict.gates if not gate.passed] == ["quality"]

    for version in reversed(versions.every(uri)):
        if fits(version) and corpus(version) not in (None, corpus(champion)):
            return version.version
    return None


def _learn(settings: Settings, seen: Monitor, say: Say) -> None:
    """Lay half of the drifted prompts in the inbox, as a song file like any other."""
    texts = [prompt for prompt in drift.drifted_prompts(settings, seen) if _is_for_training(prompt)]
    rows = [{"artist": "traffic", "song": f"prompt {number}", "text": text} for number, text in enumerate(texts)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    durable.write(settings.root / inbox.INBOX / f"traffic-{seen.deployment[:8]}.jsonl", content)
    known = ledger.read(settings.home)
    ledger.write(settings.home, replace(known, learnt=(*known.learnt, seen.deployment)))
    say(f"{len(texts)} drifted prompts go into the corpus (drift.learn_from_traffic)")


def _is_for_training(prompt: str) -> bool:
    return hashlib.sha256(prompt.encode(errors="replace")).digest()[0] % 2 == 0


def _advice(settings: Settings, seen: Monitor) -> str:
    stays = "no songs at hand can help with the drift, so the champion stays"
    prompts = drift.drifted_prompts(settings, seen)
    if not prompts:
        return f"{stays}; which songs would help cannot be told without the prompts' text (traffic.store_text)"
    words = lacking.words(prompts, _songs(settings))
    asked = f"songs with words like {', '.join(words)}" if words else "songs like the prompts"
    return f"{stays}; what would help: {asked} (lay a file into {inbox.INBOX}/)"


def _songs(settings: Settings) -> list[str]:
    from lyrics_lm.corpus.songs import read_songs

    anything = CorpusParams(max_rejects=sys.maxsize)  # they were judged when they came in
    return read_songs(versioning.song_files(settings.root), anything).songs["text"].to_list()


def _notify(settings: Settings, seen: Monitor, say: Say) -> None:
    """Tell `drift.notify_url`; one that does not answer is not waited for."""
    url = settings.params.drift.notify_url
    live = rollout.read(settings.home, "local").live
    if not url or live is None:
        return
    try:
        headers = {"content-type": "application/json"}
        answer = httpx.post(url, content=to_json(report(seen, live.version)), headers=headers, timeout=_NOTIFY_SECONDS)
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        host, status = error.request.url.host, error.response.status_code
        say(f"the alarm did not reach {host} (drift.notify_url): it answers {status}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:  # whose text, or the path, may be the secret of a hook
        say(f"the alarm did not reach {urlsplit(url).hostname} (drift.notify_url): {type(error).__name__}")
