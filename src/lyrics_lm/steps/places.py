"""Targets by name, each put together from the workspace's settings. The only place that knows them all."""

import logging
from pathlib import Path

from lyrics_lm import bundle
from lyrics_lm.deployment.local import Local
from lyrics_lm.deployment.target import Target
from lyrics_lm.errors import DeliveryError
from lyrics_lm.params import Settings
from lyrics_lm.records import LiveVersion

logger = logging.getLogger("lyrics_lm.delivery")

NAMES = ("local", "lambda")


def place(settings: Settings, name: str) -> Target:
    """The target of that name; raises `DeliveryError` that lists them."""
    if name == "local":
        return Local(settings.home)
    if name == "lambda":
        return _lambda(settings)
    raise DeliveryError(f"{name} is not a target; there is: {', '.join(NAMES)}")


def _lambda(settings: Settings) -> Target:
    from lyrics_lm.deployment.aws_lambda import Lambda, Place
    from lyrics_lm.packaging import function

    how = settings.params.aws_lambda

    def package(version: LiveVersion) -> Path:
        of = bundle.read(Path(version.path))
        built = function.build(settings.home, of, python=how.python, architecture=how.architecture)
        logger.info("%s (unzipped, zipped)\n%s", built.path.name, "\n".join(function.table(built)))
        return built.path

    where = Place(
        function=how.function,
        role=how.role,
        python=how.python,
        architecture=how.architecture,
        memory_mb=how.memory_mb,
        bucket=how.bucket,
        handler=function.HANDLER,
        direct_limit=function.DIRECT_LIMIT,
    )
    return Lambda(settings.home, where, package)
