"""Keys and certificates for tests, as `openssl ecparam` and a small authority would make them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

MADE = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    """Files: the private key, and what to trust: its public key, or the root of its certificates."""

    key: Path
    trusted: Path
    certificate: Path | None = None


def pair(folder: Path, name: str = "own") -> Pair:
    """A key pair."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key, trusted = _private(folder / f"{name}.key", private), folder / f"{name}.pub"
    trusted.write_bytes(public)
    return Pair(key, trusted)


def chain(folder: Path, name: str = "own") -> Pair:
    """A key with the certificate of an office, which has its own from a root."""
    root, office, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    roots = _certificate("root", root, "root", root)
    offices = _certificate("office", office, "root", root)
    own = _certificate(name, signer, "office", office, authority=False)
    certificate, trusted = folder / f"{name}.chain", folder / f"{name}.roots"
    certificate.write_bytes(_pem(own) + _pem(offices))
    trusted.write_bytes(_pem(roots) + _pem(offices))
    return Pair(_private(folder / f"{name}.key", signer), trusted, certificate)


def _private(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return path


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, by: str, issuer: ec.EllipticCurvePrivateKey, *, authority: bool = True
) -> x509.Certificate:
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(MADE)
        .not_valid_after(MADE + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
        .sign(issuer, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
