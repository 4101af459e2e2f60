"""A bundle as an AWS Lambda function package: one zip of what inference loads, the same byte for byte each time."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from lyrics_lm import durable, source
from lyrics_lm.bundle import Bundle
from lyrics_lm.errors import DeliveryError

HANDLER = "lyrics_lm.serving.function.handler"
UNZIPPED_LIMIT = 250 * 2**20  # AWS: "Lambda quotas", deployment package, unzipped
DIRECT_LIMIT = 50 * 2**20  # and zipped, without going through S3

_PINNED = (
    "annotated-types",
    "msgspec",
    "numpy",
    "onnxruntime",
    "pydantic",
    "pydantic-core",
    "tokenizers",
    "typing-extensions",
    "typing-inspection",
)
_RUNTIME = ("awslambdaric==4.2.2", "simplejson==4.3.0", "snapshot-restore-py==1.0.0")
# Lambda's Python 3.12 and later stand on Amazon Linux 2023 (glibc 2.34); ONNX Runtime's wheels need 2.28, so
# that Python 3.11, on Amazon Linux 2 (glibc 2.26), could not load them.
_GLIBC = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
# What a wheel brings and inference never loads.
_NEVER_LOADED = (
    "annotated_types/test_cases.py",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/_pyinstaller",
    "numpy/doc",
    "numpy/f2py",
    "numpy/random/lib",
    "numpy/testing",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "pydantic/v1",
)
_NEVER_LOADED_SUFFIXES = (".a", ".c", ".h", ".md", ".pxd", ".pyi", ".pyx", ".typed")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file: a package differs only where its content does


@dataclass(frozen=True)
class Part:
    """What one library, the code or the bundle takes: bytes unzipped, bytes zipped."""

    name: str
    unzipped: int
    zipped: int


@dataclass(frozen=True)
class Package:
    """A zip ready for Lambda, and what takes the room in it, the largest part first."""

    path: Path
    sha256: str
    parts: tuple[Part, ...]

    @property
    def unzipped(self) -> int:
        return sum(part.unzipped for part in self.parts)

    @property
    def zipped(self) -> int:
        return self.path.stat().st_size


def build(home: Path, of: Bundle, *, python: str, architecture: str) -> Package:
    """The package of a bundle, under `home/functions`; built anew each time, from wheels that are kept.

    Raises `DeliveryError` with the table of parts when it is larger than Lambda takes.
    """
    wheels = _wheels(home, python, architecture)
    target = home / "functions" / f"{of.digest[:12]}-{python}-{architecture}.zip"
    with durable.room_for(home), tempfile.TemporaryDirectory(dir=home) as place:
        root = Path(place) / "package"
        for wheel in sorted(wheels.glob("*.whl")):
            _unpack(wheel, root)
        source.copy(source.FUNCTION, root)
        shutil.copytree(of.path, root / "bundle")
        package = _zip(root, Path(place) / "package.zip")
        if package.unzipped > UNZIPPED_LIMIT:
            raise DeliveryError(
                f"the function package takes {_mb(package.unzipped)} unzipped, and Lambda takes "
                f"{_mb(UNZIPPED_LIMIT)}: {'; '.join(table(package))}; deliver a smaller model, or to a container"
            )
        target.parent.mkdir(exist_ok=True)
        package.path.replace(target)
    return Package(target, package.sha256, package.parts)


def table(package: Package) -> list[str]:
    """What takes the room, line by line, the largest first."""
    lines = [f"{part.name:<20}{_mb(part.unzipped):>10}{_mb(part.zipped):>10}" for part in package.parts]
    return [*lines, f"{'together':<20}{_mb(package.unzipped):>10}{_mb(package.zipped):>10}"]


def _wheels(home: Path, python: str, architecture: str) -> Path:
    """The wheels for that Python and machine, fetched once for each set of versions."""
    wanted = [*(f"{name}=={version(name)}" for name in _PINNED), *_RUNTIME]
    key = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    folder = home / "wheels" / f"{python}-{architecture}-{key}"
    if folder.is_dir():
        return folder
    platforms = [part for glibc in _GLIBC for part in ("--platform", f"{glibc}_{_MACHINES[architecture]}")]
    with durable.directory(folder) as draft:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--python-version", python, *platforms, "--dest", str(draft)]
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            raise DeliveryError(
                f"the libraries for Lambda (Python {python}, {architecture}) cannot be fetched: {said[0]}; "
                "check the network, or aws_lambda.python"
            )
    return folder


def _unpack(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root, [name for name in archive.namelist() if _is_loaded(PurePosixPath(name))])


def _is_loaded(file: PurePosixPath) -> bool:
    name = str(file)
    if any(name == one or name.startswith(f"{one}/") for one in _NEVER_LOADED):
        return False
    if any(part.endswith((".dist-info", ".data")) or part == "tests" for part in file.parts):
        return False
    return file.suffix not in _NEVER_LOADED_SUFFIXES


def _zip(root: Path, target: Path) -> Package:
    """Files by name, of one date and one mode, so that equal content gives equal bytes."""
    parts: dict[str, tuple[int, int]] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=zlib.Z_BEST_COMPRESSION) as archive:
        for file, name in _files(root):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, wherever this runs
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
            part = name.split("/")[0].split(".")[0]
            unzipped, zipped = parts.get(part, (0, 0))
            parts[part] = unzipped + entry.file_size, zipped + entry.compress_size
    with open(target, "rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    ordered = sorted((Part(name, *sizes) for name, sizes in parts.items()), key=lambda part: -part.unzipped)
    return Package(target, digest, tuple(ordered))


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(root.rglob("*")):
        if file.is_file():
            yield file, file.relative_to(root).as_posix()


def _mb(size: int) -> str:
    return f"{size / 2**20:.1f} MB"
