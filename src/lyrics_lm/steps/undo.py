"""`lyrics-lm undo`: back to what served before, at once, whether MLflow answers or not."""

from lyrics_lm.params import Settings
from lyrics_lm.records import Deployment
from lyrics_lm.steps.places import place


def undo(settings: Settings, target: str) -> Deployment:
    """Bring back the previous deployment; raises `DeliveryError` when there is none."""
    return place(settings, target).undo()


def put_on_record(settings: Settings, target: str) -> None:
    """Write the change down in MLflow, where it runs; else the next pass of the loop does."""
    from lyrics_lm.registry import server

    if settings.tracking_uri or server.is_running(settings.home):
        from lyrics_lm.steps.record import record

        with server.tracking(settings) as uri:
            record(uri, settings.home, target)
