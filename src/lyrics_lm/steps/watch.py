"""`lyrics-lm watch`: the controller. Trains what was committed and never trained, delivers what waits."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from lyrics_lm import params, processes, versioning
from lyrics_lm.errors import LyricsError, ModelError
from lyrics_lm.monitoring.monitor import Monitor
from lyrics_lm.params import Settings
from lyrics_lm.steps import due, inbox, ledger, retrain, trial
from lyrics_lm.steps.deliver import deliver
from lyrics_lm.steps.due import Due
from lyrics_lm.steps.release import Candidate, outcome

_POLL_SECONDS = 0.5
_ATTEND_SECONDS = 2.0
_MAX_BACKOFF_SECONDS = 60.0

Say = Callable[[str], None]


class Controller:
    """Level-triggered: looks at what is, not at what happened, so nothing is missed while it was away."""

    def __init__(self, settings: Settings, uri: str, say: Say) -> None:
        self._settings = settings
        self._uri = uri
        self._say = say
        self._training: _Training | None = None
        self._settled: str | None = None
        self._bigram_tried = False
        self._alarm: Monitor | None = None
        self._drift_retry = _Retry()
        self._inbox_retry = _Retry()
        self._release_retry = _Retry()
        self._trial_retry = _Retry()
        self._attended = 0.0
        self._training_retry = _Retry()

    def run(self) -> None:
        """Until interrupted. What fails for a passing reason is tried again, later each time."""
        processes.stop_leftovers(self._settings.home, "training", "validation")
        try:
            while True:
                self._guarded(self._take_in, self._inbox_retry)
                self._guarded(self._release, self._release_retry)
                self._guarded(self._attend, self._trial_retry)
                self._guarded(self._look, self._drift_retry)
                self._guarded(self._train, self._training_retry)
                time.sleep(_POLL_SECONDS)
        finally:
            if self._training:
                self._training.stop()

    def attend(self) -> None:
        """Only to the version that is on trial or has just taken over, where an orchestrator does the rest."""
        while True:
            self._guarded(self._attend, self._trial_retry)
            time.sleep(_POLL_SECONDS)

    def _guarded(self, work: Callable[[], None], retry: "_Retry") -> None:
        if not retry.due():
            return
        try:
            self._settings = params.load(self._settings.root)
            work()
        except LyricsError as error:
            if retry.failed(str(error)):
                self._say(f"{error} (trying again, less and less often)")
        else:
            retry.succeeded()

    def _take_in(self) -> None:
        if self._training is None:  # what is being trained is the newest there is
            inbox.take(self._settings, self._say)

    def _look(self) -> None:
        self._alarm = retrain.alarm(self._settings, self._say)

    def _attend(self) -> None:
        if time.monotonic() - self._attended >= _ATTEND_SECONDS:
            self._attended = time.monotonic()
            trial.attend(self._settings, self._uri, self._say)

    def _release(self) -> None:
        began = time.monotonic()

        def on_step(name: str, candidate: Candidate) -> None:
            if name == "deploy":
                self._say(outcome(candidate, time.monotonic() - began))

        deliver(self._settings, self._uri, on_step=on_step)

    def _train(self) -> None:
        if self._training is None:
            due = self._due()
            if due is None and self._alarm is None:
                return
            decided = retrain.decision(self._settings, self._uri, self._alarm, due=due is not None)
            if due and (due.assignments or decided.action == "train"):
                self._begin(due, decided.cause)
            elif self._alarm and not due:
                retrain.carry_out(self._settings, self._uri, self._alarm, decided, self._say)
        elif not self._training.running():
            ended, self._training = self._training, None
            failure = ended.finish()
            if failure and not self._is_settled(ended.due):
                raise ModelError(failure)

    def _begin(self, due: Due, cause: str) -> None:
        self._say(f"training {due.name}{'' if cause == 'a commit' else f', because of {cause}'}")
        if not due.assignments:
            ledger.trained(self._settings.home, ledger.Retraining(time.time(), due.snapshot.inputs, cause))
        self._training = _Training(self._settings, due)

    def _is_settled(self, due: Due) -> bool:
        """Whether a failed training is on record, to be told once and not tried again; the bigram,
        which only goes ahead of another, is not tried again either."""
        from lyrics_lm.registry import runs

        return bool(due.assignments) or runs.of_inputs(self._uri, due.snapshot.inputs) is not None

    def _due(self) -> Due | None:
        """The bigram while nothing was ever registered; then the committed inputs, if they were
        never trained."""
        snapshot = versioning.committed(self._settings.root)
        if snapshot.inputs == self._settled:
            return None
        found = due.find(self._uri, snapshot, bigram_tried=self._bigram_tried)
        if isinstance(found, Due):
            self._bigram_tried = self._bigram_tried or bool(found.assignments)
            return found
        self._settled = snapshot.inputs
        if found.reason:
            self._say(f"commit {(snapshot.commit or '')[:7]} was not trained: {found.reason}")
        return None


class _Training:
    """`lyrics-lm train` on a checkout of its own, so that edits under way disturb nothing."""

    def __init__(self, settings: Settings, due: Due) -> None:
        self._settings = settings
        self.due = due
        self._folder = settings.home / "trees" / "training"
        self._log = settings.home / "logs" / "training.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._tree = versioning.checkout(settings.root, due.snapshot.commit or "HEAD", self._folder)
        command = [sys.executable, "-m", "lyrics_lm", "-C", str(self._tree), "train"]
        for assignment in due.assignments:
            command += ["--set", assignment]
        home = {"LYRICS_LM_HOME": str(settings.home), **processes.mark(settings.home, "training")}
        keys = {"LYRICS_LM_SIGNING_KEYS": str(settings.root)}  # which are in no commit
        with open(self._log, "wb") as output:
            self._process = subprocess.Popen(
                command, env={**keys, **os.environ, **home}, stdout=output, stderr=output, start_new_session=True
            )

    def running(self) -> bool:
        return self._process.poll() is None

    def finish(self) -> str | None:
        """Bring its results into the workspace when that is still at the same inputs; returns why it
        failed, if it did."""
        if self._process.returncode:
            lines = self._log.read_text(errors="replace").splitlines()
            said = next((line for line in reversed(lines) if line.startswith("lyrics-lm: ")), None)
            reason = said.removeprefix("lyrics-lm: ") if said else f"the training process was killed; see {self._log}"
            return f"{self.due.name} was not trained: {reason}"
        root = self._settings.root
        if not self.due.assignments and versioning.working(root).inputs == self.due.snapshot.inputs:
            versioning.take_results(root, self._tree)
        versioning.remove_checkout(root, self._folder)
        return None

    def stop(self) -> None:
        processes.stop(self._process.pid)
        self._process.wait()


class _Retry:
    """When to try again: at once while all goes well, then after a second, doubling up to a minute."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._at = 0.0
        self._reason: str | None = None

    def due(self) -> bool:
        return time.monotonic() >= self._at

    def failed(self, reason: str) -> bool:
        """Note a failure; returns whether it is another one than the last time."""
        self._pause = min(_MAX_BACKOFF_SECONDS, 2 * self._pause or 1.0)
        self._at = time.monotonic() + self._pause
        known, self._reason = self._reason == reason, reason
        return not known

    def succeeded(self) -> None:
        self._pause, self._reason = 0.0, None


def watch(settings: Settings, say: Say, *, only_trials: bool = False) -> None:
    """Run the controller of a workspace, or only its care for what was put live, until interrupted."""
    from lyrics_lm.registry.server import tracking

    with tracking(settings) as uri:
        controller = Controller(settings, uri, say)
        controller.attend() if only_trials else controller.run()
