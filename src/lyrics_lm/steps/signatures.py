"""What a workspace's settings say of signatures: what is trusted, and who signs a bundle that is to be registered."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lyrics_lm import bundle, signing
from lyrics_lm.bundle import Bundle
from lyrics_lm.params import Settings
from lyrics_lm.signing import Trust


def trust(settings: Settings) -> Trust | None:
    """What signatures are verified against; None where none is."""
    trusted = settings.signing.trusted
    return Trust(trusted, settings.signing.require_signature) if trusted else None


def require_signer(settings: Settings) -> None:
    """Raise, before hours of work, what `signed` would raise after them."""
    if settings.signing.key:
        signing.signer(*_signer(settings))


@contextlib.contextmanager
def signed(settings: Settings, read: Bundle) -> Iterator[Bundle]:
    """The bundle with its signature, where there is a key to sign with: a copy, for DVC keeps what is in the original.
    One that somebody signed stays theirs."""
    if settings.signing.key is None or signing.is_signed(read):
        yield read
        return
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(read.path, Path(place) / "bundle")
        signing.sign(folder, *_signer(settings))
        yield bundle.read(folder)


def _signer(settings: Settings) -> tuple[Path, Path | None]:
    certificate = settings.signing.certificate
    return Path(settings.signing.key or ""), Path(certificate) if certificate else None
