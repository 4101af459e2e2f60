"""`lyrics-lm deliver`: one pass of the release loop, every waiting version through every step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from lyrics_lm.errors import DeliveryError
from lyrics_lm.params import Settings
from lyrics_lm.steps.release import Candidate, Release

LOCK = "delivery.lock"  # in the home: held by the one delivery that runs


def deliver(
    settings: Settings, uri: str, target: str = "local", *, on_step: Callable[[str, Candidate], None] = lambda *_: None
) -> list[Candidate]:
    """Deal with all pending versions, oldest first; returns what became of each. Where nothing waits, a
    target that does not serve the champion yet gets it.

    One delivery runs at a time per home: raises `DeliveryError` while another does.
    """
    from lyrics_lm.steps.record import record

    done: list[Candidate] = []
    with alone(settings):
        record(uri, settings.home, target)
        release = Release(settings, uri)
        while True:
            candidate = release.fetch_new_model(Candidate(target=target))
            if candidate.version is None:
                candidate = release.fetch_champion(candidate)
            if candidate.version is None:
                return done
            for name in release.STEPS:
                if name != "fetch_new_model":
                    candidate = release.step(name)(candidate)
                on_step(name, candidate)
            done.append(candidate)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """No delivery runs in this home while the block does; raises `DeliveryError` where one does."""
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.home / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise DeliveryError(f"another delivery, or gc, runs in {settings.home}; wait for it to end") from error
