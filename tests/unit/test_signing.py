"""Signatures of bundles: what is trusted signed every byte of what is served, the signature's own included."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import model_signing
import numpy as np
import pytest

import keys
from bundles import bigram_bundle, bigram_graph, graph_bundle
from lyrics_lm import bundle, rollout, signing
from lyrics_lm.bundle import CONTRACT, MODEL, SIGNATURE, TOKENIZER
from lyrics_lm.errors import BundleError, ParamsError, SignatureError
from lyrics_lm.records import LiveVersion, Verdict
from lyrics_lm.serving.live import load
from lyrics_lm.signing import Trust

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
WAYS = {"key": keys.pair, "certificates": keys.chain}


@pytest.fixture(params=WAYS)
def pair(request, tmp_path):
    return WAYS[request.param](tmp_path)


def signed(folder, pair):
    """A bundle of six tokens, so small that each of its bytes can be tried."""
    made = graph_bundle(folder, bigram_graph(np.zeros((6, 6), np.float32)), vocab="abcde")
    signing.sign(made.path, pair.key, pair.certificate)
    return bundle.read(made.path)


def trust(pair, **kwargs):
    return Trust(str(pair.trusted), **kwargs)


def flip(path, place, bit):
    good = path.read_bytes()
    path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
    return good


def test_what_was_signed_is_verified(tmp_path, pair):
    """By a key or by certificates; the digest of the bundle is what it was."""
    before = graph_bundle(tmp_path / "bundle", bigram_graph(np.zeros((6, 6), np.float32)), vocab="abcde").digest
    made = signed(tmp_path / "bundle", pair)
    assert made.digest == before
    signing.verify(made, trust(pair, required=True))


def test_a_copy_elsewhere_is_verified_too(tmp_path, pair):
    """The signature goes with the folder, whatever that is called."""
    made = signed(tmp_path / "bundle", pair)
    signing.verify(bundle.read(shutil.copytree(made.path, tmp_path / "other name")), trust(pair))


@pytest.mark.parametrize("name", [CONTRACT, MODEL, TOKENIZER, SIGNATURE])
def test_one_flipped_bit_in_any_byte_of_any_file_is_refused(tmp_path, pair, name):
    """Exhaustively: each byte of each file in turn, by the signature alone, which asks no digest of the contract."""
    made = signed(tmp_path / "bundle", pair)
    path = made.path / name
    for place in range(path.stat().st_size):
        good = flip(path, place, place % 8)
        with pytest.raises(SignatureError):
            signing.verify(made, trust(pair))
        path.write_bytes(good)
    signing.verify(made, trust(pair))


@pytest.mark.parametrize("name", [CONTRACT, MODEL, TOKENIZER, SIGNATURE])
def test_a_bundle_with_a_flipped_bit_is_not_served(tmp_path, pair, name):
    """The service's own loader refuses it, whichever file it is."""
    made = signed(tmp_path / "bundle", pair)
    version = LiveVersion(1, made.digest, "tiny", "by hand", 4.0, "bento:1", str(made.path))
    deployment = rollout.deploy(tmp_path, "local", version, "first", Verdict("d", None, 0.0, ()))
    assert load(version, deployment, trust=trust(pair))
    flip(made.path / name, (made.path / name).stat().st_size // 2, 0)
    with pytest.raises((SignatureError, BundleError)):
        load(version, deployment, trust=trust(pair))


def test_a_forged_contract_is_not_served(tmp_path, pair):
    """Who exchanges the model can make the digests fit, but not the signature."""
    made = signed(tmp_path / "bundle", pair)
    other = graph_bundle(tmp_path / "other", bigram_graph(np.ones((6, 6), np.float32)), vocab="abcde")
    shutil.copyfile(made.path / SIGNATURE, other.path / SIGNATURE)
    forged = bundle.read(other.path)
    version = LiveVersion(1, forged.digest, "tiny", "by hand", 4.0, "bento:1", str(forged.path))
    deployment = rollout.deploy(tmp_path, "local", version, "first", Verdict("d", None, 0.0, ()))
    with pytest.raises(SignatureError, match=r"is not what own\..* signed: Signature mismatch.*; copy it again"):
        load(version, deployment, trust=trust(pair))
    assert load(version, deployment)


@pytest.mark.parametrize("way", WAYS)
def test_another_key_is_not_trusted(tmp_path, pair, way):
    """Neither a key nor the certificates of somebody else, by whose names ours are called."""
    (tmp_path / "elsewhere").mkdir()
    made = signed(tmp_path / "bundle", pair)
    with pytest.raises(SignatureError, match="is not what own"):
        signing.verify(made, trust(WAYS[way](tmp_path / "elsewhere")))


def test_a_missing_signature_is_refused_only_where_one_is_required(tmp_path, pair):
    made = bigram_bundle(tmp_path / "bundle")
    signing.verify(made, trust(pair))
    with pytest.raises(SignatureError, match=r"has no signature\.sig.*; set signing\.key and register it again"):
        signing.verify(made, trust(pair, required=True))


def test_a_file_that_nobody_signed_is_refused(tmp_path, pair):
    made = signed(tmp_path / "bundle", pair)
    (made.path / "more.txt").write_text("more")
    with pytest.raises(SignatureError, match=r"Extra files found.*more\.txt"):
        signing.verify(made, trust(pair))


def test_a_signature_that_leaves_the_contract_out_counts_for_nothing(tmp_path):
    """Though a trusted key made it."""
    pair = keys.pair(tmp_path)
    made = bigram_bundle(tmp_path / "bundle")
    ignored = model_signing.hashing.Config().set_ignored_paths(paths=[SIGNATURE, CONTRACT, MODEL])
    how = model_signing.signing.Config().use_elliptic_key_signer(private_key=pair.key).set_hashing_config(ignored)
    how.sign(made.path, made.path / SIGNATURE)
    with pytest.raises(SignatureError, match=r"contract\.json was left out"):
        signing.verify(made, trust(pair))


def test_what_the_library_signs_by_itself_is_verified(tmp_path):
    """`model_signing sign key` is all that a data scientist needs."""
    pair = keys.pair(tmp_path)
    made = bigram_bundle(tmp_path / "bundle")
    command = [sys.executable, "-m", "model_signing", "sign", "key", str(made.path)]
    subprocess.run([*command, "--private_key", pair.key, "--signature", made.path / SIGNATURE], check=True)
    signing.verify(bundle.read(made.path), trust(pair, required=True))


def test_the_library_verifies_what_we_sign(tmp_path):
    """Without lyrics-lm at hand, `model_signing verify key` does."""
    pair = keys.pair(tmp_path)
    made = signed(tmp_path / "bundle", pair)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(made.path)]
    command += ["--public_key", pair.trusted, "--signature", made.path / SIGNATURE]
    assert subprocess.run(command, check=False).returncode == 0
    flip(made.path / MODEL, 9, 0)
    assert subprocess.run(command, check=False).returncode == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the key")
def test_the_documented_commands_make_a_key_sign_and_verify(tmp_path):
    """Those of docs/security.md, as they stand there, from an empty folder of keys to a bundle that is served."""
    section = DOCUMENT.read_text().partition("## Bundles: signed")[2].partition("\n## ")[0]
    made = bigram_bundle(tmp_path / "my_bundle")
    (tmp_path / "keys").mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
        environment = {**os.environ, "HOME": str(tmp_path), "PATH": path}
        subprocess.run(["bash", "-ec", block], cwd=tmp_path, env=environment, check=True, capture_output=True)
    signing.verify(bundle.read(made.path), Trust(str(tmp_path / "lyrics.pub"), required=True))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b"null", b" " * 2**21])
def test_a_signature_that_is_none_is_refused(tmp_path, pair, content):
    made = signed(tmp_path / "bundle", pair)
    (made.path / SIGNATURE).write_bytes(content)
    with pytest.raises(SignatureError) as caught:
        signing.verify(made, trust(pair))
    assert "\n" not in str(caught.value)


def test_a_signature_without_the_name_of_its_key_is_refused(tmp_path, capsys):
    """The library would let it pass, with a warning in the middle of what a step prints."""
    pair = keys.pair(tmp_path)
    made = signed(tmp_path / "bundle", pair)
    sealed = json.loads((made.path / SIGNATURE).read_bytes())
    sealed["verificationMaterial"]["publicKey"] = {}
    (made.path / SIGNATURE).write_text(json.dumps(sealed, separators=(",", ":")))
    with pytest.raises(SignatureError):
        signing.verify(made, trust(pair))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [None, "", "ssh-ed25519 AAAA", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_cannot_be_trusted_is_no_fault_of_the_bundle(tmp_path, pair, content):
    """A wrong `signing.trusted` is told as that; no version is turned away for it."""
    made = signed(tmp_path / "bundle", pair)
    wrong = tmp_path / "wrong.pem"
    if content is not None:
        wrong.write_text(content)
    with pytest.raises(ParamsError, match=r"signing\.trusted is .*wrong\.pem"):
        signing.verify(made, Trust(str(wrong)))


def test_a_key_that_cannot_sign_is_named(tmp_path):
    """Missing, of another kind, or with the certificate of another key."""
    pair, other = keys.chain(tmp_path), keys.pair(tmp_path, "other")
    with pytest.raises(ParamsError, match="there is no such file"):
        signing.signer(tmp_path / "nowhere.pem")
    with pytest.raises(ParamsError, match=r"signing\.key .* cannot sign"):
        signing.signer(other.trusted)
    with pytest.raises(ParamsError, match="does not match"):
        signing.signer(other.key, pair.certificate)


def test_a_bundle_may_hold_a_signature_and_nothing_in_its_place(tmp_path):
    """Not a link, not a folder, not a pickle; and a contract cannot list it."""
    made = bigram_bundle(tmp_path / "bundle")
    place = made.path / SIGNATURE
    place.write_text("{}")
    assert bundle.read(made.path) == made
    place.unlink()
    place.symlink_to(made.path / MODEL)
    with pytest.raises(BundleError, match=r"signature\.sig is not listed"):
        bundle.read(made.path)
    place.unlink()
    place.mkdir()
    with pytest.raises(BundleError, match=r"signature\.sig is not listed"):
        bundle.read(made.path)
    place.rmdir()
    place.write_bytes(b"\x80\x04\x95abcdefgh")
    with pytest.raises(BundleError, match=r"signature\.sig is a pickle"):
        bundle.read(made.path)
    listed = dataclasses.replace(made.manifest, files={**made.manifest.files, SIGNATURE: "0" * 64})
    (made.path / CONTRACT).write_text(json.dumps(dataclasses.asdict(listed)))
    with pytest.raises(BundleError, match=r"lists signature\.sig"):
        bundle.read(made.path)


def test_without_the_library_the_remedy_is_told(tmp_path):
    """The tool runs without the extra; where a key is set, it says what to install."""
    script = (
        "import sys; sys.modules['model_signing'] = None\n"
        "from pathlib import Path\nfrom lyrics_lm import signing\nfrom lyrics_lm.errors import LyricsError\n"
        "from lyrics_lm.serving import live\n"
        f"try: signing.sign(Path({str(tmp_path)!r}), Path('key.pem'))\n"
        "except LyricsError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == (
        "signing.key is set, and model_signing is not installed; install it: pip install 'lyrics-lm[signing]'\n"
    )
