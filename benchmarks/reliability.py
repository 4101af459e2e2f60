"""The figures and tables of docs/reliability.md, made anew from a drill and a soak.

lyrics-lm drill --json > drill.json
lyrics-lm soak 30 --json > soak.json
python benchmarks/reliability.py drill.json soak.json
"""

import re
import sys
import time
from pathlib import Path

from lyrics_lm import durable
from lyrics_lm.drill import page, soak_page
from lyrics_lm.drill.drill import Report
from lyrics_lm.drill.soak import Soak
from lyrics_lm.records import from_json

DOCS = Path(__file__).parents[1] / "docs"
DOCUMENT = DOCS / "reliability.md"


def main(drill: Path, soak: Path) -> None:
    """Draw both, and put their tables between the marks of the document."""
    report, soaked = from_json(drill.read_bytes(), Report), from_json(soak.read_bytes(), Soak)
    page.picture(report, DOCS / "reliability-drill.svg")
    soak_page.curves(soaked, DOCS / "reliability-soak.svg")
    text = DOCUMENT.read_text()
    text = between(text, "drill", f"{dated(report.began)}: {page.summary(report)}.\n\n{page.markdown(report)}")
    text = between(text, "soak", f"{dated(soaked.began)}: {soak_page.summary(soaked)}.\n\n{soak_page.markdown(soaked)}")
    durable.write(DOCUMENT, text.encode())


def between(text: str, mark: str, content: str) -> str:
    """The text with that content between the marks of that name."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    assert pattern.search(text), f"{DOCUMENT} has no {begin}"
    return pattern.sub(lambda _: f"{begin}\n{content}{end}", text)


def dated(began: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(began))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
