"""`lyrics-lm keys`: who may ask the service from other machines."""

from dataclasses import dataclass

from lyrics_lm import keys
from lyrics_lm.keys import Key
from lyrics_lm.params import Settings


@dataclass(frozen=True)
class Made:
    """A new key; its text is told this once."""

    name: str
    key: str


def add(settings: Settings, name: str) -> Made:
    """Make a key of that name."""
    return Made(name, keys.add(settings.home, name))


def every(settings: Settings) -> list[Key]:
    """The keys that open the service."""
    return keys.every(settings.home)


def remove(settings: Settings, name: str) -> None:
    """Take a key back; the running service knows at once."""
    keys.remove(settings.home, name)
