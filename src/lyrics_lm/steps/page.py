"""A page that stands alone: its style, tables, and pictures inside it. Knows nothing of what it shows."""

import html
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
td, th { border: 1px solid #8886; padding: 0.25rem 0.6rem; text-align: left; vertical-align: top; }
pre { white-space: pre-wrap; border-left: 3px solid #8886; padding-left: 1rem; }
svg { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.passed { color: #1a7f37; } .failed { color: #cf222e; }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole document around finished HTML."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text in cells."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"


def drawn(draw: Callable[[Path], None]) -> str:
    """A picture, drawn into a file of SVG, to stand inside a page."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "picture.svg"
        draw(file)
        text = file.read_text()
    return text[text.index("<svg") :]
