"""Targets by name, each put together from the workspace's settings. The only place that knows them all."""

import logging
from collections.abc import Callable
from pathlib import Path

from lyrics_lm import bundle
from lyrics_lm.deployment.local import Local
from lyrics_lm.deployment.target import Target
from lyrics_lm.errors import DeliveryError
from lyrics_lm.params import Settings
from lyrics_lm.records import LiveVersion

logger = logging.getLogger("lyrics_lm.delivery")

NAMES = ("local", "lambda", "container", "kubernetes")


def place(settings: Settings, name: str) -> Target:
    """The target of that name; raises `DeliveryError` that lists them."""
    if name == "local":
        return Local(settings.home)
    if name == "lambda":
        return _lambda(settings)
    if name == "container":
        from lyrics_lm.deployment.container import Container

        return Container(settings.home, _image(settings, push=False))
    if name == "kubernetes":
        from lyrics_lm.deployment import kubernetes

        where = kubernetes.Place(**settings.params.kubernetes.model_dump())
        return kubernetes.Kubernetes(settings.home, where, _image(settings, push=True))
    raise DeliveryError(f"{name} is not a target; there is: {', '.join(NAMES)}")


def _image(settings: Settings, *, push: bool) -> Callable[[LiveVersion], str]:
    """Makes the image of a version; without a Docker engine, all that one needs for it."""
    from lyrics_lm.packaging import image

    def made(version: LiveVersion) -> str:
        name = image.name(settings.params.images.repository, version.digest)
        folder = image.context(settings.home, bundle.read(Path(version.path)), version.version, name)
        if image.engine():
            logger.info("%s: %.0f MB", name, image.build(folder, name, push=push) / 1e6)
        else:
            logger.info(
                "no Docker engine answers here; %s (%.1f MB) is ready: docker build --tag %s %s",
                folder.name, image.size(folder) / 1e6, name, folder,
            )  # fmt: skip
        return name

    return made


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
