"""Model versions: register a bundle, find those without a verdict, fetch one, mark what became of it."""

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from lyrics_lm import source
from lyrics_lm.bundle import CONTRACT, Bundle
from lyrics_lm.errors import BundleError, RegistryError
from lyrics_lm.records import Verdict, from_json, to_json
from lyrics_lm.registry.client import MODEL, asking

CHAMPION = "champion"
CHALLENGER = "challenger"

_DIGEST = "lyrics_lm.digest"
_VERDICT = "lyrics_lm.verdict"
_REASON = "lyrics_lm.reason"
_EVIDENCE = "lyrics_lm.evidence"
_DELIVERED = "lyrics_lm.delivered"
_REQUIREMENTS = ("onnxruntime", "tokenizers", "numpy", "msgspec")


@dataclass(frozen=True)
class Version:
    """A registered version as the registry knows it. `digest` is None until its bundle was fetched
    or when a stranger registered it; `delivered` is the deployment it ended in."""

    version: int
    created: float
    run: str | None
    digest: str | None
    verdict: Verdict | None
    delivered: str | None


def register(uri: str, bundle: Bundle, run: str) -> int:
    """Log the bundle to the run as a model from code and register it; returns its version number.

    A bundle that is registered already keeps its number.
    """
    known = registered(uri, bundle.digest)
    if known is not None:
        return known.version
    with asking(uri) as client, tempfile.TemporaryDirectory() as folder:
        code = source.copy(source.INFERENCE, Path(folder))
        # It would ask for an input example, which the signature below makes moot.
        with mlflow.start_run(run_id=run), contextlib.redirect_stderr(io.StringIO()):
            logged = mlflow.pyfunc.log_model(
                name="bundle",
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"bundle": str(bundle.path)},
                code_paths=[str(code)],
                pip_requirements=_requirements(),
                signature=_signature(),
            )
        _ensure_model(client)
        made = client.create_model_version(
            MODEL, logged.model_uri, run_id=run, tags={_DIGEST: bundle.digest}, model_id=logged.model_id
        )
        return _first(client, bundle.digest, int(made.version))


def _first(client: mlflow.MlflowClient, digest: str, made: int) -> int:
    """The version to go by. Another process, on whatever machine, may have registered the same bundle at the same
    moment: all keep the first, and take their own back. One turned away for its signature does not count."""
    query = f"name = '{MODEL}' and tags.`{_DIGEST}` = '{digest}'"
    standing = [one for one in map(_version, client.search_model_versions(query)) if not _lacks_signature(one)]
    first = min(one.version for one in standing)
    if first != made:
        client.delete_model_version(MODEL, str(made))
    return first


def every(uri: str) -> list[Version]:
    """All versions, oldest first."""
    with asking(uri) as client:
        found = client.search_model_versions(f"name = '{MODEL}'", max_results=10_000)
        return sorted((_version(item) for item in found), key=lambda version: version.version)


def find(uri: str, digest: str) -> Version | None:
    """The first version whose bundle has this digest (or one that begins with it), rather than one that was turned
    away for its signature."""
    found = [version for version in every(uri) if version.digest and version.digest.startswith(digest)]
    return min(found, key=_lacks_signature, default=None)


def registered(uri: str, digest: str) -> Version | None:
    """The version that this bundle is already. One that was turned away for its signature does not count: signed,
    the same bundle may come again."""
    found = find(uri, digest)
    return None if found is None or _lacks_signature(found) else found


def get(uri: str, number: int) -> Version:
    """One version; raises `RegistryError` when there is none of that number."""
    found = next((version for version in every(uri) if version.version == number), None)
    if found is None:
        raise RegistryError(f"there is no version {number} of {MODEL} in MLflow at {uri}; see: lyrics-lm status")
    return found


def pending(uri: str) -> list[Version]:
    """Versions still to be dealt with, oldest first: without a verdict, or passed and not delivered."""
    return [version for version in every(uri) if is_pending(version)]


def champion(uri: str) -> Version | None:
    """The version under the alias `champion`."""
    with asking(uri) as client:
        try:
            return _version(client.get_model_version_by_alias(MODEL, CHAMPION))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def fetch(uri: str, number: int, folder: Path) -> None:
    """Download all files of a version to `folder`."""
    with asking(uri):
        mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{number}", dst_path=str(folder))


def locate(folder: Path, number: int) -> Path:
    """The directory among a version's files that holds a contract.

    Raises `BundleError` when there is none: the version is not a bundle.
    """
    contracts = sorted(folder.rglob(CONTRACT), key=lambda path: len(path.parts))
    if not contracts:
        raise BundleError(
            f"version {number} holds no {CONTRACT}; register a bundle: lyrics-lm register DIR, "
            "or log one with mlflow.pyfunc.log_model(artifacts={'bundle': DIR})"
        )
    return contracts[0].parent


def mark_digest(uri: str, number: int, digest: str) -> None:
    """Note which bundle a version is, once it was fetched."""
    with asking(uri) as client:
        client.set_model_version_tag(MODEL, str(number), _DIGEST, digest)


def mark_verdict(uri: str, number: int, verdict: Verdict) -> None:
    """Write a verdict to its version. The tag that ends its pending goes last."""
    with asking(uri) as client:
        client.set_model_version_tag(MODEL, str(number), _EVIDENCE, to_json(verdict).decode())
        client.set_model_version_tag(MODEL, str(number), _REASON, verdict.reason)
        client.set_model_version_tag(MODEL, str(number), _VERDICT, "passed" if verdict.passed else "rejected")
        if verdict.passed:
            client.set_registered_model_alias(MODEL, CHALLENGER, str(number))


def reopen(uri: str, number: int) -> None:
    """Take a verdict back: the version is to be judged again."""
    with asking(uri) as client:
        for tag in (_VERDICT, _REASON, _EVIDENCE):
            with contextlib.suppress(MlflowException):  # taken back already
                client.delete_model_version_tag(MODEL, str(number), tag)


def mark_delivered(uri: str, number: int, deployment: str) -> None:
    """Note the deployment that a passed version ended in."""
    with asking(uri) as client:
        client.set_model_version_tag(MODEL, str(number), _DELIVERED, deployment)


def set_champion(uri: str, number: int) -> None:
    """Point the alias `champion` at what serves; a challenger that became it is none any more."""
    with asking(uri) as client:
        client.set_registered_model_alias(MODEL, CHAMPION, str(number))
        if client.get_registered_model(MODEL).aliases.get(CHALLENGER) == str(number):
            client.delete_registered_model_alias(MODEL, CHALLENGER)


def _ensure_model(client: mlflow.MlflowClient) -> None:
    try:
        client.create_registered_model(MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(item: Any) -> Version:
    tags = item.tags
    return Version(
        version=int(item.version),
        created=item.creation_timestamp / 1000,
        run=item.run_id or None,
        digest=tags.get(_DIGEST),
        verdict=from_json(tags[_EVIDENCE], Verdict) if _VERDICT in tags else None,
        delivered=tags.get(_DELIVERED),
    )


def is_pending(version: Version) -> bool:
    """Whether the release loop still has to deal with it."""
    return version.verdict is None or (version.verdict.passed and version.delivered is None)


def _lacks_signature(version: Version) -> bool:
    gates = version.verdict.gates if version.verdict else ()
    return any(gate.gate == "signature" and not gate.passed for gate in gates)


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in _REQUIREMENTS]


def _signature() -> ModelSignature:
    return ModelSignature(
        inputs=Schema([ColSpec("string")]),
        outputs=Schema([ColSpec("string")]),
        params=ParamSchema(
            [
                ParamSpec("max_tokens", "integer", 200),
                ParamSpec("temperature", "float", 1.0),
                ParamSpec("seed", "integer", 1),
            ]
        ),
    )
