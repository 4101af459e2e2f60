"""`lyrics-lm drift --html`: the report's pictures in one file, with Evidently's report where that is installed."""

import html
import importlib.util
import tempfile
from pathlib import Path

from lyrics_lm import durable
from lyrics_lm.monitoring import picture
from lyrics_lm.monitoring.monitor import Monitor
from lyrics_lm.monitoring.report import describe
from lyrics_lm.monitoring.signals import SIGNALS
from lyrics_lm.params import Settings
from lyrics_lm.steps.drift import drift, look

_FEWEST = 10


def write(settings: Settings, file: Path) -> None:
    """Write the page, whole or not at all."""
    seen = look(settings)
    durable.write(file, picture.page(seen, describe(drift(settings)), _evidently(seen)).encode())


def _evidently(seen: Monitor) -> str:
    """Evidently's own report of the two windows, in a frame of its own."""
    if importlib.util.find_spec("evidently") is None:
        return "<p>Install <code>lyrics-lm[report]</code> to see Evidently's report of the two windows here.</p>"
    if seen.reference is None or len(seen.recent) < _FEWEST:
        return ""
    import pandas
    from evidently import Report
    from evidently.presets import DataDriftPreset

    then = pandas.DataFrame(seen.reference.array, columns=list(SIGNALS)).dropna()
    now = pandas.DataFrame([one.values for one in seen.recent], columns=list(SIGNALS), dtype=float).dropna()
    if min(len(then), len(now)) < _FEWEST:
        return ""
    made = Report([DataDriftPreset()]).run(now, then)
    with tempfile.TemporaryDirectory() as folder:
        made.save_html(str(Path(folder) / "report.html"))
        content = (Path(folder) / "report.html").read_text(encoding="utf-8")
    framed = html.escape(content, quote=True)
    return f'<h2>Evidently</h2><iframe title="Evidently" sandbox="allow-scripts" srcdoc="{framed}"></iframe>'
