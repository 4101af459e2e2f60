"""The model card: `README.md` of a bundle, made of what was measured. The same model has the same card."""

from collections.abc import Iterator, Mapping

from lyrics_lm.records import CopyingReport, EvalReport, Manifest, Slice, SlicesReport
from lyrics_lm.steps.scores import interval

_WORST_ARTISTS = 3


def card(
    manifest: Manifest,
    report: EvalReport,
    baselines: Mapping[str, float],
    slices: SlicesReport,
    copying: CopyingReport,
    samples: Mapping[str, str],
) -> str:
    """Markdown. `baselines` are bits per character by name, `samples` texts by what they were drawn with."""
    parts = (
        _head(manifest),
        _scores(report, baselines),
        _slices(slices),
        _copying(copying),
        _samples(samples),
        _made_from(manifest),
    )
    return "\n\n".join(parts) + "\n"


def _head(manifest: Manifest) -> str:
    return (
        f"# {manifest.name}, {manifest.architecture}\n\n"
        "A language model of song lyrics. It writes text that resembles its training songs, and knows nothing else: "
        "what it says is not true, not checked, and may offend as songs do. Whoever publishes what it writes should "
        "look for passages of other people's songs first."
    )


def _scores(report: EvalReport, baselines: Mapping[str, float]) -> str:
    low, high = interval(report)
    rows = [
        ("this model", f"{report.bits_per_char:.4f} [{low:.4f}, {high:.4f}]"),
        *((name, f"{bits:.4f}") for name, bits in baselines.items()),
    ]
    return (
        f"## Scores\n\nOn {len(report.songs)} songs ({sum(report.chars):,} characters, split `{report.split}`) that "
        f"nobody trained on; fewer are better.\n\n{_table(('', 'bits per character [95% interval]'), rows)}\n\n"
        f"Perplexity per token: {report.perplexity:.4f} (compares under the same tokenizer only)."
    )


def _slices(slices: SlicesReport) -> str:
    artists = [one for one in slices.slices if one.kind == "artist"][:_WORST_ARTISTS]
    rows = [_row("lines ", one) for one in slices.slices if one.kind == "lines"]
    rows += [_row("songs: ", one) for one in slices.slices if one.kind == "length"]
    rows += [_row("worst artist: ", one) for one in artists]
    return (
        f"## Where it is good, and where not\n\n{slices.overlap:.1%} of the test songs' lines stand word for word in "
        f"training songs.\n\n{_table(('part of the test songs', 'songs', 'bits per character [95% interval]'), rows)}"
    )


def _row(prefix: str, one: Slice) -> tuple[str, str, str]:
    known = one.low is not None and one.high is not None
    interval = f"[{one.low:.3f}, {one.high:.3f}]" if known else "[too few songs to tell]"
    return f"{prefix}{one.name}", str(one.songs), f"{one.bits_per_char:.3f} {interval}"


def _copying(copying: CopyingReport) -> str:
    said = (
        f"## Copying\n\nAsked {copying.samples} times to go on from training songs, or from nothing, "
        f"{copying.share:.2%} of what it wrote (by runs of {copying.window} characters) stands word for word in one of "
        f"them, the longest passage {copying.longest} characters long. Of the test songs, which copied nothing, it is "
        f"{copying.test_share:.2%}, the longest {copying.test_longest}. Lines common to several songs and refrains "
        f"are left out."
    )
    if not copying.worst:
        return said
    rows = [(worst.song, str(worst.length), f"“{worst.text}”") for worst in copying.worst]
    return f"{said}\n\n{_table(('longest of a song', 'characters', 'begins'), rows)}"


def _samples(samples: Mapping[str, str]) -> str:
    texts = (f"### {name}\n\n```text\n{text.strip()}\n```" for name, text in samples.items())
    return "## Samples\n\n" + "\n\n".join(texts)


def _made_from(manifest: Manifest) -> str:
    provenance = manifest.provenance
    edits = " with uncommitted edits" if provenance["git_dirty"] else ""
    rows = [
        ("corpus", f"`{provenance['corpus']}`"),
        ("commit", f"{provenance['git_commit'] or 'no commit'}{edits}"),
        ("seed", str(provenance["seed"])),
        ("vocabulary, context", f"{manifest.vocab_size} tokens, {manifest.context} tokens"),
        *(("settings: " + section, _listed(values)) for section, values in provenance["params"].items()),
    ]
    return f"## Made from\n\n{_table(('', ''), rows)}"


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _table(head: tuple[str, ...], rows: list[tuple[str, str]] | list[tuple[str, str, str]]) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: tuple[str, ...], rows: list[tuple[str, str]] | list[tuple[str, str, str]]) -> Iterator[str]:
    for cells in (head, ("---",) * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
