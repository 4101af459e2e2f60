"""The contract's file format: write a bundle, read one, verify every digest. Knows no model."""

import dataclasses
import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lyrics_lm import durable
from lyrics_lm.errors import BundleError
from lyrics_lm.records import Manifest, from_json

CONTRACT = "contract.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
SIGNATURE = "signature.sig"  # over all other files; the one that the contract, which it signs, cannot list
FORMAT = 1
# In the metadata of `model.onnx`, "1": where each row reads one token, the next state may be written over the state.
IN_PLACE = "in_place"

_LONGEST_NAME = 255
_PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".cloudpickle"}
_PICKLE_MAGIC = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


@dataclass(frozen=True)
class Bundle:
    """A verified directory. `digest` is the SHA-256 of the canonical manifest: its identity."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.stat().st_size for file in self.path.iterdir())


@dataclass(frozen=True)
class _Format:
    """What a manifest of any format has; only this one's is read further."""

    format: int


def write(directory: Path, sources: Mapping[str, Path], manifest: Manifest) -> Bundle:
    """Copy `sources` (name in the bundle -> file) to `directory`, whole or not at all.

    `manifest.files` is filled in from the files themselves. `contract.json` is written in canonical
    form, so `sha256sum contract.json` prints the bundle's digest.
    """
    with durable.directory(directory) as draft:
        for name, source in sources.items():
            shutil.copyfile(source, draft / name)
        files = {name: _sha256(draft / name) for name in sorted(sources)}
        complete = dataclasses.replace(manifest, files=files)
        (draft / CONTRACT).write_bytes(canonical(msgspec.to_builtins(complete)))
    return read(directory)


def read(directory: Path) -> Bundle:
    """The bundle in `directory`, every file checked against its digest.

    Raises `BundleError` naming the first file that is missing, changed, unlisted, a pickle, a link,
    or outside the directory.
    """
    if not directory.is_dir():
        raise BundleError(f"{directory} is not a directory; give the folder that holds {CONTRACT}")
    manifest, digest = _read_manifest(directory / CONTRACT)
    if SIGNATURE in manifest.files:
        raise BundleError(f"bundle {directory} lists {SIGNATURE}, which signs that list; leave it out of {CONTRACT}")
    for name in (MODEL, TOKENIZER):
        if name not in manifest.files:
            raise BundleError(f"bundle {directory} lists no {name} in {CONTRACT}; export it again with that file")
    for name, sha256 in manifest.files.items():
        _verify(directory, name, sha256)
    _refuse_unlisted(directory, set(manifest.files) | {CONTRACT})
    return Bundle(directory.resolve(), manifest, digest)


def canonical(manifest: object) -> bytes:
    """Canonical JSON: keys sorted, no white space, UTF-8."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _read_manifest(path: Path) -> tuple[Manifest, str]:
    if not path.is_file() or path.is_symlink():
        raise BundleError(f"{path.parent} is not a bundle, for it has no {CONTRACT}; give the folder that holds one")
    raw = path.read_bytes()
    try:
        _require_format(path, from_json(raw, _Format).format)
        manifest = from_json(raw, Manifest)
        digest = hashlib.sha256(canonical(json.loads(raw))).hexdigest()
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} does not follow the contract: {error}") from error
    return manifest, digest


def _require_format(path: Path, seen: int) -> None:
    if seen != FORMAT:
        what = "upgrade lyrics-lm" if seen > FORMAT else "export it again"
        raise BundleError(f"{path} has format {seen}, and this lyrics-lm reads format {FORMAT}; {what}")


def _verify(directory: Path, name: str, sha256: str) -> None:
    path = directory / name
    plain = name == Path(name).name and name not in ("", ".", "..") and len(name.encode()) <= _LONGEST_NAME
    if not plain or path.is_symlink():
        raise BundleError(
            f"bundle {directory} lists {name[:80]!r}, which is outside its directory; list plain file names only"
        )
    if not path.is_file():
        raise BundleError(f"bundle {directory} has no {name}, which its contract lists; copy the whole folder again")
    if _is_pickle(path):
        raise BundleError(f"{path} is a pickle, which can run code when read; keep weights in {WEIGHTS}")
    if _sha256(path) != sha256:
        raise BundleError(
            f"{path} is not the file its contract lists (SHA-256 differs); copy or export the bundle again"
        )


def _refuse_unlisted(directory: Path, listed: set[str]) -> None:
    for path in sorted(directory.iterdir()):
        if path.name not in listed and not _is_signature(path):
            kind = "is a pickle, which can run code when read" if _is_pickle(path) else "is not listed in its contract"
            raise BundleError(f"{path} {kind}; remove it or export the bundle again")


def _is_signature(path: Path) -> bool:
    return path.name == SIGNATURE and path.is_file() and not path.is_symlink() and not _is_pickle(path)


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(8)
    # A safetensors header of 640 bytes begins like a pickle, but goes on with zeros, which no pickle does.
    if head[:2] in _PICKLE_MAGIC and head[2:] != bytes(6):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).suffix.lower() in _PICKLE_SUFFIXES for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # not an archive that anything could unpack
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
