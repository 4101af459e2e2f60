"""A version on trial, decided on by a person through the command line."""

import json

from lyrics_lm import rollout
from lyrics_lm.records import LiveVersion, Verdict
from workspaces import cli

VERDICT = Verdict("d", None, 0.0, ())


def version(number):
    return LiveVersion(number, f"{number:064x}", "tiny", "by hand", 3.0, f"bento:{number}", "/nowhere")


def test_a_person_promotes_or_aborts_what_is_tried(tmp_path):
    """In words that say who has which share; without a trial they are told so."""
    (tmp_path / "params.yaml").write_text("delivery:\n  strategy: canary\n")
    home = tmp_path / ".lyrics-lm"
    rollout.deploy(home, "local", version(1), "first", VERDICT)
    assert "no version is being tried at local" in cli(tmp_path, "promote", check=False).stderr
    rollout.deploy(home, "local", version(2), "better", VERDICT, share=5)
    assert "version 1: 75%, version 2: 25%" in cli(tmp_path, "promote", "--share", "25").stdout
    assert "version 1: 100%" in cli(tmp_path, "abort").stdout
    rollout.deploy(home, "local", version(3), "better still", VERDICT, share=5)
    promoted = json.loads(cli(tmp_path, "promote", "--json").stdout)
    assert (promoted["action"], promoted["versions"][0]["version"]) == ("promote", 3)
