"""The three things that change: the registry, the corpus with its settings, and traffic. Each is watched."""

from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable
from lyrics_lm_events import CorpusEye, DriftEye, RegistryEye
from lyrics_lm_tasks import WORKSPACE

REGISTRY = Asset("lyrics_lm_registry", watchers=[AssetWatcher(name="registry", trigger=RegistryEye(WORKSPACE))])
CORPUS = Asset("lyrics_lm_corpus", watchers=[AssetWatcher(name="corpus", trigger=CorpusEye(WORKSPACE))])
DRIFT = Asset("lyrics_lm_drift", watchers=[AssetWatcher(name="drift", trigger=DriftEye(WORKSPACE))])


def when(asset: Asset, cron: str) -> AssetOrTimeSchedule:
    """At every event of the asset; and by the clock, for those that are lost."""
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(cron, timezone="UTC"), assets=[asset])
