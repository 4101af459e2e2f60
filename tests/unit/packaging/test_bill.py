"""The bill of materials: valid CycloneDX, complete, and true of what the Bento installs."""

import json
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import keys
from bundles import bigram_bundle
from lyrics_lm import bundle, signing
from lyrics_lm.errors import MachineError
from lyrics_lm.packaging import bentos, bill


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, and the folder of its Bento in the store."""
    home = tmp_path_factory.mktemp("home")
    made = bigram_bundle(home / "bundle", name="tiny")
    bentos.import_model(home, made)
    return made, bentos.folder(home) / "bentos" / bentos.build(home, made, 1).replace(":", "/")


@pytest.fixture(scope="module")
def told(made):
    """The bill in that Bento."""
    [file] = made[1].rglob(bill.FILE)
    return json.loads(file.read_text())


def test_each_bento_carries_a_bill_that_follows_its_schema(told):
    """Judged by the library's own strict validator of CycloneDX 1.6."""
    assert told["specVersion"] == "1.6"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(told)) is None


def test_the_bill_names_what_the_bento_pins(made, told):
    """Each library once, of the version that `pip` will install and that is installed here."""
    listed = {part["name"]: part["version"] for part in told["components"] if part["type"] == "library"}
    pins = set((made[1] / "env" / "python" / "requirements.txt").read_text().split())  # BentoML adds itself
    assert sorted(pins) == sorted(f"{name}=={version}" for name, version in listed.items())
    assert all(distribution(name).version == version for name, version in listed.items())
    assert {"bentoml", "onnxruntime", "numpy", "tokenizers", "starlette", "protobuf"} <= set(listed)
    assert not {"torch", "mlflow", "boto3", "dvc"} & set(listed)


def test_nothing_that_a_library_needs_is_missing(told):
    """Whatever is installed and asked for without an extra is listed, and the tree says by whom."""
    needs = {entry["ref"]: set(entry.get("dependsOn", ())) for entry in told["dependencies"]}
    libraries = {part["name"]: part["bom-ref"] for part in told["components"] if part["type"] == "library"}
    for name, ref in libraries.items():
        asked = [Requirement(line) for line in distribution(name).requires or ()]
        plain = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
        assert {libraries[canonicalize_name(one.name)] for one in plain} <= needs[ref]
    reached, waiting = set(), ["bento"]
    while waiting:
        ref = waiting.pop()
        waiting += needs[ref] - reached
        reached |= {ref} | needs[ref]
    assert reached == {"bento", "model", *libraries.values()}


def test_the_bill_names_the_model_and_its_files(made, told):
    """As a machine-learning model, by the digest that names the bundle everywhere."""
    [model] = [part for part in told["components"] if part["type"] == "machine-learning-model"]
    assert (model["name"], model["hashes"]) == ("tiny", [{"alg": "SHA-256", "content": made[0].digest}])
    files = {part["name"]: part["hashes"][0]["content"] for part in model["components"]}
    assert files == made[0].manifest.files


def test_licenses_are_named_where_libraries_name_them(told):
    """By expression, by classifier, or not at all; never the whole text."""
    licenses = {part["name"]: part.get("licenses") for part in told["components"] if part["type"] == "library"}
    assert licenses["attrs"] == [{"license": {"id": "MIT"}}]
    assert licenses["onnxruntime"] == [{"license": {"name": "MIT License"}}]
    assert sum(told is not None for told in licenses.values()) > 0.9 * len(licenses)


def test_a_signed_bundle_brings_what_verifies_it(tmp_path):
    made = bigram_bundle(tmp_path / "bundle")
    plain = {library.name for library in bill.closure(pin.partition("==")[0] for pin in bentos.requirements(made))}
    signing.sign(made.path, keys.pair(tmp_path).key)
    pins = {pin.partition("==")[0] for pin in bentos.requirements(bundle.read(made.path))}
    assert pins - plain >= {"model-signing", "pyopenssl", "sigstore", "cryptography"}


def test_a_library_that_is_not_installed_is_named():
    with pytest.raises(PackageNotFoundError):
        distribution("no-such-library")
    with pytest.raises(MachineError, match="no-such-library, which the service needs, is not installed"):
        bill.closure(["no-such-library"])
