"""Signatures of bundles, as OpenSSF's `model-signing` makes them: sign a folder, verify a bundle. The one home of that
library, which is an extra; knows no settings."""

import importlib.util
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from lyrics_lm.bundle import CONTRACT, SIGNATURE, Bundle
from lyrics_lm.errors import MachineError, ParamsError, SignatureError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from model_signing.signing import Config
    from sigstore_models.bundle.v1 import Bundle as Sealed

LIBRARIES = ("model-signing", "pyopenssl")  # the first needs the second, and does not say so

_LARGEST = 2**20  # bytes: one with ten certificates takes a hundredth of it
_INSTALL = "pip install 'lyrics-lm[signing]'"
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Trust:
    """`file` holds, in PEM, the public key or the root certificates that signatures are verified against;
    `required`: whether a bundle without a signature is refused too."""

    file: str
    required: bool = False


@dataclass(frozen=True)
class _Trusted:
    """What that file holds: root certificates, or none where it is a public key."""

    path: Path
    roots: "list[Certificate]"


def available() -> bool:
    """Whether the library is installed."""
    return all(importlib.util.find_spec(name) for name in ("model_signing", "OpenSSL"))


def is_signed(read: Bundle) -> bool:
    """Whether somebody signed it; who, and what exactly, only `verify` tells."""
    return (read.path / SIGNATURE).is_file()


def sign(folder: Path, key: Path, certificate: Path | None = None) -> None:
    """Write the signature over all other files of `folder` into it; raises as `signer` does."""
    signer(key, certificate).sign(folder, folder / SIGNATURE)


def signer(key: Path, certificate: Path | None = None) -> "Config":
    """Who signs: a private key alone, or one that the first certificate of a chain vouches for.

    Raises `ParamsError` where key or certificate cannot be used.
    """
    library = _library("signing.key")
    for name, file in (("key", key), ("certificate", certificate)):
        if file is not None and not file.is_file():
            raise ParamsError(f"signing.{name} is {file}, and there is no such file; see docs/security.md for how to")
    ignored = library.hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    how: Config = library.signing.Config().set_hashing_config(ignored)
    try:
        if certificate is None:
            how.use_elliptic_key_signer(private_key=key)
        else:
            how.use_certificate_signer(
                private_key=key, signing_certificate=certificate, certificate_chain=[certificate]
            )
    except Exception as error:  # of the library or of the four below it, which have no base in common
        raise ParamsError(
            f"signing.key {key} cannot sign: {_words(error)}; give a private key in PEM, of the curve prime256v1 "
            "and without a password, and the certificate made for it"
        ) from error
    return how


def verify(read: Bundle, trust: Trust) -> None:
    """Check that what is trusted signed every byte of the bundle; raises `SignatureError` otherwise.

    The library alone would let some changes of the signature itself pass, such as unused bits and certificates that
    prove nothing: here each byte of it counts.
    """
    name = f"bundle {read.digest[:12]}"
    if not is_signed(read):
        if trust.required:
            raise SignatureError(
                f"{name} has no {SIGNATURE}, and signing.require_signature asks for one; "
                "set signing.key and register it again"
            )
        return
    library = _library("signing.trusted")
    trusted = _read_trusted(trust)
    try:
        sealed = _open(read.path / SIGNATURE)
        how = library.verifying.Config()
        if trusted.roots:
            how.use_certificate_verifier(certificate_chain=[trusted.path])
        else:
            how.use_elliptic_key_verifier(public_key=trusted.path)
        how.verify(read.path, read.path / SIGNATURE)
        _require_whole(sealed, trusted.roots)
    except Exception as error:  # of the library or of the four below it, which have no base in common
        raise SignatureError(
            f"{name} is not what {trusted.path.name} signed: {_words(error)}; copy it again, or sign it with a key "
            "that is trusted"
        ) from error


def _open(path: Path) -> "Sealed":
    """The signature, where its bytes are those that the library writes for what it says."""
    from sigstore_models.bundle.v1 import Bundle as Sealed

    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{SIGNATURE} is larger than a signature can be")
    raw = path.read_bytes()
    sealed = Sealed.from_json(raw)
    if sealed.to_json().encode() != raw:
        raise ValueError(f"{SIGNATURE} is not written as model-signing 1.1 writes it")
    key = sealed.verification_material.public_key
    if key is not None and not key.hint:
        raise ValueError(f"{SIGNATURE} does not say which key made it")
    return sealed


def _require_whole(sealed: "Sealed", roots: "list[Certificate]") -> None:
    """The contract, which lists all other files, was signed; and each certificate follows from the next, the last
    from a root."""
    assert sealed.dsse_envelope is not None  # what was verified
    statement = json.loads(sealed.dsse_envelope.payload)
    if CONTRACT not in [resource["name"] for resource in statement["predicate"]["resources"]]:
        raise ValueError(f"{CONTRACT} was left out of what was signed")
    if not roots:
        return
    from cryptography import x509

    assert sealed.verification_material.x509_certificate_chain is not None
    given = sealed.verification_material.x509_certificate_chain.certificates
    chain = [x509.load_der_x509_certificate(certificate.raw_bytes) for certificate in given]
    follows = all(one == other or _issued(one, other) for one, other in pairwise(chain))
    if not follows or not any(chain[-1] == root or _issued(chain[-1], root) for root in roots):
        raise ValueError("its certificates do not follow from each other")


def _issued(one: "Certificate", by: "Certificate") -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        one.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _read_trusted(trust: Trust) -> _Trusted:
    """Raises `ParamsError` where there is nothing in it to trust: that is no fault of a bundle."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    path = Path(trust.file)
    try:
        text = path.read_text(encoding="ascii")
        if _CERTIFICATE in text:
            return _Trusted(path, x509.load_pem_x509_certificates(text.encode()))
        serialization.load_pem_public_key(text.encode())
    except (OSError, ValueError) as error:
        raise ParamsError(
            f"signing.trusted is {path}, which is no public key or certificate in PEM: {_words(error)}; "
            "give one, as docs/security.md has it"
        ) from error
    return _Trusted(path, [])


def _library(setting: str) -> ModuleType:
    try:
        import model_signing
    except ModuleNotFoundError as error:
        raise MachineError(f"{setting} is set, and {error.name} is not installed; install it: {_INSTALL}") from error
    return model_signing


def _words(error: Exception) -> str:
    said = " ".join(str(error).split()).rstrip(". ")
    return said or type(error).__name__
