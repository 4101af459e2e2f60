"""The bill of materials of a Bento: every library that its requirements bring in, and the model, in CycloneDX 1.6."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageMetadata, PackageNotFoundError, distribution
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lyrics_lm.bundle import Bundle
from lyrics_lm.errors import MachineError

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

FILE = "bom.cdx.json"

_LONGEST_LICENSE = 80  # characters: some give the whole text where its name belongs
_CLASSIFIER = "License :: OSI Approved :: "


@dataclass(frozen=True)
class Library:
    """An installed library: its license in its own words (None: it names none), and the libraries that it needs here,
    by name."""

    name: str
    version: str
    license: str | None
    needs: tuple[str, ...]


def closure(wanted: Iterable[str]) -> tuple[Library, ...]:
    """What is installed of the wanted libraries and of all that they need here, by name.

    Raises `MachineError` where one of them is not installed.
    """
    found: dict[str, Distribution] = {}
    needs: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()  # (name, extra)
    waiting = [Requirement(name) for name in wanted]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        found[name] = found.get(name) or _installed(name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            asked = [Requirement(line) for line in found[name].requires or ()]
            here = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]
            needs.setdefault(name, set()).update(canonicalize_name(one.name) for one in here)
            waiting += here
    return tuple(
        Library(name, found[name].version, _license(found[name].metadata), tuple(sorted(needs[name])))
        for name in sorted(found)
    )


def bill(of: Bundle, libraries: Iterable[Library], wanted: Iterable[str]) -> str:
    """The bill of a Bento of that bundle, as JSON. It needs the `wanted` of the libraries itself."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    bento = Component(name="lyrics-lm", version=of.digest[:12], type=ComponentType.APPLICATION, bom_ref="bento")
    model, parts = _model(of), {library.name: _component(library) for library in libraries}
    bom = Bom(components=[model, *parts.values()])
    bom.metadata.component = bento
    bom.register_dependency(bento, [model, *(parts[canonicalize_name(name)] for name in wanted)])
    for library in libraries:
        bom.register_dependency(parts[library.name], [parts[name] for name in library.needs])
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _model(of: Bundle) -> "Component":
    """The bundle with its digest, and its files with theirs."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    def sha256(content: str) -> HashType:
        return HashType(alg=HashAlgorithm.SHA_256, content=content)

    files = [
        Component(name=name, type=ComponentType.FILE, bom_ref=f"model/{name}", hashes=[sha256(digest)])
        for name, digest in of.manifest.files.items()
    ]
    return Component(
        name=of.manifest.name,
        version=of.digest[:12],
        description=of.manifest.architecture,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        hashes=[sha256(of.digest)],
        components=files,
    )


def _component(library: Library) -> "Component":
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL("pypi", name=library.name, version=library.version)
    return Component(
        name=library.name,
        version=library.version,
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(library.license)] if library.license else [],
    )


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise MachineError(f"{name}, which the service needs, is not installed; install lyrics-lm again") from error


def _license(metadata: PackageMetadata) -> str | None:
    """The expression, where there is one; else what the classifiers say, or the old field where that is a name."""
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = metadata.get_all("Classifier") or []
    classified = [line.removeprefix(_CLASSIFIER) for line in classifiers if line.startswith(_CLASSIFIER)]
    named = ", ".join(classified) or (metadata.get_all("License") or [""])[0].strip()
    return named if 0 < len(named) <= _LONGEST_LICENSE and "\n" not in named else None
