"""A report for a pull request: what was trained here beside what a revision gave."""

import re

import pytest

from lyrics_lm import params
from lyrics_lm.registry import server
from workspaces import cli, git, make_workspace, set_params


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """`main` was trained as a bigram; the branch trains a transformer."""
    root = make_workspace(tmp_path_factory.mktemp("shop") / "mine", songs=150, **{"model.name": "bigram"})
    with server.tracking(params.load(root)):
        cli(root, "train")
        git(root, "checkout", "-qb", "better")
        set_params(root, {"model.name": "transformer"})
        git(root, "commit", "-qam", "attend")
        yield root


def test_what_was_not_trained_is_not_reported(shop):
    """The bundle here is of another commit: one line."""
    refused = cli(shop, "report", "--base", "main", check=False)
    assert refused.returncode == 1
    assert "train it again" in refused.stderr
    refused = cli(shop, "report", "--base", "nonsense", check=False)
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_report_compares_with_the_base(shop):
    """Verdict, scores of both, the setting that changed, two pictures that are there, and a sample of each."""
    cli(shop, "train")
    said = cli(shop, "report", "--base", "main").stdout
    folder = shop / "build" / "report"
    text = (folder / "report.md").read_text()
    assert said.splitlines()[0] in text
    assert re.search(r"Would( not)? pass against main \(", said)
    assert "| model.name | `transformer` | `bigram` |" in text
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == 2
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert text.count("## Sample of") == 2


def test_a_base_that_was_never_trained_is_said(shop, tmp_path):
    """The report stands alone then."""
    git(shop, "branch", "untrained", "main~1")
    said = cli(shop, "report", "--base", "untrained", "--out", str(tmp_path / "out")).stdout
    assert "alone (untrained was never trained)" in said
    assert (tmp_path / "out" / "report.md").read_text().count("## Sample of") == 1


def test_a_page_about_a_version(shop, tmp_path):
    """One file with verdict, scores, curves and card; it needs nothing beside it."""
    cli(shop, "deliver")
    cli(shop, "report", "1", "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    for part in ("Its gates passed", "copying", "bits per character on the test songs", "Made in", "Made from", "<svg"):
        assert part in page
    assert "http" not in re.sub(
        r'xmlns\S*|"http://www.w3.org\S*|<!DOCTYPE[^>]*>|<metadata>.*?</metadata>', "", page, flags=re.S
    )
    refused = cli(shop, "report", "1", check=False)
    assert refused.returncode == 2
    assert "VERSION --html FILE, or --base REV" in refused.stderr
