import dataclasses
import hashlib
import json
import os
import zipfile

import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundles import VOCAB, bigram_bundle
from lyrics_lm import bundle
from lyrics_lm.errors import BundleError
from lyrics_lm.records import Manifest


@pytest.fixture
def folder(tmp_path):
    return bigram_bundle(tmp_path / "bundle").path


def edit(folder, **changes):
    """Write changed fields into contract.json, as a stranger's export would."""
    contract = json.loads((folder / bundle.CONTRACT).read_bytes())
    (folder / bundle.CONTRACT).write_text(json.dumps({**contract, **changes}))


def add(folder, name, data):
    """Put a file into the bundle and list it."""
    (folder / name).write_bytes(data)
    contract = json.loads((folder / bundle.CONTRACT).read_bytes())
    edit(folder, files={**contract["files"], name: hashlib.sha256(data).hexdigest()})


def refused(folder, message):
    with pytest.raises(BundleError, match=message) as caught:
        bundle.read(folder)
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read_back(tmp_path):
    """Manifest, digest and size are the same from the writer and from a reader."""
    written = bigram_bundle(tmp_path / "bundle", name="mine")
    assert bundle.read(tmp_path / "bundle") == written
    assert written.manifest.name == "mine"
    assert written.manifest.vocab_size == len(VOCAB) + 1
    assert set(written.manifest.files) == {"model.onnx", "tokenizer.json"}
    assert written.size == sum(file.stat().st_size for file in written.path.iterdir())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [field.name for field in dataclasses.fields(Manifest)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(FIELDS) | st.text(), JSON, max_size=3))
def test_whatever_a_contract_says_it_is_read_or_refused_in_one_line(folder, changes):
    """Any JSON in any field; what is read lists what is there."""
    good = (folder / bundle.CONTRACT).read_bytes()
    edit(folder, **changes)
    refusal, read = "", None
    try:
        read = bundle.read(folder)
    except BundleError as error:
        refusal = str(error)
    finally:
        (folder / bundle.CONTRACT).write_bytes(good)
    assert "\n" not in refusal
    assert refusal or {*read.manifest.files, bundle.CONTRACT} == {file.name for file in folder.iterdir()}


def test_the_digest_is_the_checksum_of_the_contract(folder):
    """`sha256sum contract.json` prints the bundle's digest."""
    assert bundle.read(folder).digest == hashlib.sha256((folder / bundle.CONTRACT).read_bytes()).hexdigest()


def test_the_digest_does_not_depend_on_white_space(folder):
    """A contract written by hand, indented and in another order, has the same identity."""
    digest = bundle.read(folder).digest
    contract = json.loads((folder / bundle.CONTRACT).read_bytes())
    (folder / bundle.CONTRACT).write_text(json.dumps(dict(reversed(contract.items())), indent=4))
    assert bundle.read(folder).digest == digest


def test_any_difference_is_another_digest(tmp_path):
    one, other = bigram_bundle(tmp_path / "one"), bigram_bundle(tmp_path / "other", seed=1)
    assert one.digest != other.digest


def test_a_flipped_bit_is_found(folder):
    """One bit of any file, and the file is named."""
    for name in (bundle.MODEL, bundle.TOKENIZER):
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
        refused(folder, f"{name} is not the file its contract lists")
        (folder / name).write_bytes(good)


def test_a_missing_file_is_named(folder):
    (folder / bundle.TOKENIZER).unlink()
    refused(folder, r"has no tokenizer\.json, which its contract lists")


@pytest.mark.parametrize("name", [bundle.MODEL, bundle.TOKENIZER])
def test_model_and_tokenizer_must_be_listed(folder, name):
    contract = json.loads((folder / bundle.CONTRACT).read_bytes())
    edit(folder, files={key: value for key, value in contract["files"].items() if key != name})
    refused(folder, f"lists no {name}")


def test_an_unlisted_file_is_refused(folder):
    (folder / "notes.txt").write_text("hello")
    refused(folder, r"notes\.txt is not listed")


def test_an_unlisted_folder_is_refused(folder):
    (folder / "more").mkdir()
    refused(folder, "more is not listed")


@pytest.mark.parametrize("name", ["model.pkl", "weights.pt", "WEIGHTS.PTH", "last.ckpt", "a.joblib"])
def test_a_pickle_by_name_is_refused_though_listed(folder, name):
    add(folder, name, b"anything")
    refused(folder, "is a pickle, which can run code when read")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_by_content_is_refused_whatever_its_name(folder, protocol):
    import pickle

    add(folder, "notes.txt", pickle.dumps({"a": 1}, protocol=protocol))
    refused(folder, r"notes\.txt is a pickle")


def test_an_unlisted_pickle_is_called_one(folder):
    (folder / "model.pkl").write_bytes(b"")
    refused(folder, r"model\.pkl is a pickle")


def test_a_torch_archive_is_a_pickle(folder):
    """What torch.save writes is a zip with a pickle inside."""
    with zipfile.ZipFile(folder / "extra.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    add(folder, "extra.bin", (folder / "extra.bin").read_bytes())
    refused(folder, r"extra\.bin is a pickle")


def test_a_broken_archive_is_only_a_file(folder):
    """Bytes that end like a zip and are none give no traceback."""
    add(folder, "extra.bin", b"PK\x05\x06" + b"\xff" * 18)
    assert bundle.read(folder)


@pytest.mark.parametrize("floats", range(0, 400, 7))
def test_safetensors_are_never_taken_for_a_pickle(folder, floats):
    """Some header lengths (640, 896, ...) begin with the bytes of a pickle."""
    metadata = {"note": "x" * floats * 4}
    data = safetensors.numpy.save({}, metadata=metadata)
    add(folder, bundle.WEIGHTS, data)
    assert bundle.read(folder)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/hostname", "sub/file.txt", "..", ".", "", "a" * 5000])
def test_a_path_outside_the_folder_is_refused(folder, name):
    """Only plain file names may be listed, also where such a file exists."""
    (folder.parent / "outside.txt").write_text("secret")
    contract = json.loads((folder / bundle.CONTRACT).read_bytes())
    edit(folder, files={**contract["files"], name: hashlib.sha256(b"secret").hexdigest()})
    refused(folder, "outside its directory")


def test_a_link_is_refused_even_to_the_right_content(folder):
    good = folder.parent / "elsewhere.onnx"
    (folder / bundle.MODEL).rename(good)
    (folder / bundle.MODEL).symlink_to(good)
    refused(folder, r"model\.onnx.*outside its directory")


def test_a_linked_contract_is_refused(folder):
    (folder / bundle.CONTRACT).rename(folder.parent / "contract.json")
    (folder / bundle.CONTRACT).symlink_to(folder.parent / "contract.json")
    refused(folder, "is not a bundle")


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    refused(folder, "pipe is not listed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "does not follow the contract"),
        (b"\xff\xfe", "does not follow the contract"),
        (b"[]", "does not follow the contract"),
        (b"{}", "missing required field"),
        (b"[" * 100_000, "does not follow the contract"),
        (b'{"format": NaN}', "does not follow the contract"),
    ],
)
def test_a_contract_that_is_none_is_refused(folder, content, message):
    (folder / bundle.CONTRACT).write_bytes(content)
    refused(folder, message)


@pytest.mark.parametrize(
    ("field", "value"), [("vocab_size", "33"), ("files", ["a"]), ("context", 1.5), ("state", [{"name": "h"}])]
)
def test_a_field_of_the_wrong_kind_is_named(folder, field, value):
    edit(folder, **{field: value})
    refused(folder, field)


def test_another_format_is_refused(folder):
    edit(folder, format=2)
    refused(folder, "has format 2, and this lyrics-lm reads format 1; upgrade lyrics-lm")


def test_logits_after_each_token_may_be_the_known_answer(folder):
    """(T, V) logits are as good as (V)."""
    edit(folder, known_answer={"tokens": [1, 2], "logits": [[0.5, 1], [2, 3.5]]})
    assert bundle.read(folder).manifest.known_answer.logits == ((0.5, 1.0), (2.0, 3.5))


@pytest.mark.parametrize("name", ["", "bundle.txt"])
def test_what_is_no_bundle_is_said_to_be_none(tmp_path, name):
    (tmp_path / "bundle.txt").write_text("")
    refused(tmp_path / name, "is not a bundle" if not name else "is not a directory")


def test_a_failed_write_leaves_the_old_bundle(folder):
    """A source that is not there stops the write, and the bundle that stood still stands."""
    before = bundle.read(folder)
    with pytest.raises(FileNotFoundError):
        bundle.write(folder, {bundle.MODEL: folder.parent / "nowhere"}, before.manifest)
    assert bundle.read(folder) == before
