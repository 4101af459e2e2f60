"""`lyrics-lm promote` and `lyrics-lm abort`: a person decides on the version that is being tried."""

from lyrics_lm.params import Settings
from lyrics_lm.records import Deployment
from lyrics_lm.steps.places import place


def shift(settings: Settings, target: str, share: int) -> Deployment:
    """Give the challenger that share of the traffic; raises `DeliveryError` when none is being tried."""
    said = {0: "aborted by a person", 100: "promoted by a person"}.get(share, f"given {share}% by a person")
    return place(settings, target).shift(share, said)
