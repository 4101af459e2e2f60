"""AWS Lambda as a target: one function, a published version for each bundle, and the alias `live` that shares the
traffic among them. The only home of boto3."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from lyrics_lm import rollout
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import Deployment, LiveVersion, Verdict
from lyrics_lm.rollout import Rollout

ALIAS = "live"
_MARK = {"created-by": "lyrics-lm"}  # a function without it is somebody else's, and is left alone
_WAIT = {"Delay": 1, "MaxAttempts": 120}
_SMOKE = {"prompt": "la", "max_tokens": 4, "temperature": 0}


@dataclass(frozen=True)
class Place:
    """Which function, and how it is made. `bucket` is where a zip too large for a direct upload goes."""

    function: str
    role: str | None
    python: str
    architecture: str
    memory_mb: int
    bucket: str | None
    handler: str
    direct_limit: int


class Lambda:
    """Packages, publishes, tries a version, and only then moves the alias."""

    name = "lambda"

    def __init__(self, home: Path, place: Place, package: Callable[[LiveVersion], Path]) -> None:
        """`package` gives the zip of a version."""
        self._home = home
        self._place = place
        self._package = package

    def deploy(self, version: LiveVersion, reason: str, evidence: Verdict, *, share: int = 100) -> Deployment:
        with _told(self._place.function) as aws:
            number = self._published(aws, version)
            self._try(aws, number)
            deployment = rollout.deploy(self._home, self.name, version, reason, evidence, share=share)
            self._follow_or_withdraw(aws, deployment)
        return deployment

    def shift(self, share: int, reason: str) -> Deployment:
        with _told(self._place.function) as aws:
            deployment = rollout.shift(self._home, self.name, share, reason)
            self._follow_or_withdraw(aws, deployment)
        return deployment

    def undo(self, reason: str | None = None) -> Deployment:
        with _told(self._place.function) as aws:
            deployment = rollout.undo(self._home, self.name, reason)
            self._follow_or_withdraw(aws, deployment)
        return deployment

    def describe(self) -> Rollout:
        return rollout.read(self._home, self.name)

    def logs(self, lines: int) -> list[str]:
        with _told(self._place.function):
            client = boto3.client("logs")
            try:
                found = client.filter_log_events(logGroupName=f"/aws/lambda/{self._place.function}")
            except client.exceptions.ResourceNotFoundException:  # made by the first line that is logged
                return []
            return [event["message"].rstrip() for event in found["events"]][-lines:]

    def tear_down(self) -> None:
        with _told(self._place.function) as aws:
            if self._existing(aws):
                aws.delete_function(FunctionName=self._place.function)
            rollout.forget(self._home, self.name)

    def _follow_or_withdraw(self, aws: Any, deployment: Deployment) -> None:
        """Point the alias where the deployment says; what fails through the alias is taken back."""
        before = self._alias(aws)
        try:
            self._follow(aws, deployment)
            self._try(aws, ALIAS)
        except (DeliveryError, ClientError, BotoCoreError):
            rollout.withdraw(self._home, self.name, deployment)
            if before:
                aws.update_alias(FunctionName=self._place.function, Name=ALIAS, **before)
            raise

    def _follow(self, aws: Any, deployment: Deployment) -> None:
        first, *others = [self._number(aws, version) for version in deployment.versions]
        weights = {number: one.share / 100 for number, one in zip(others, deployment.versions[1:], strict=True)}
        wanted = {"FunctionVersion": first, "RoutingConfig": {"AdditionalVersionWeights": weights}}
        if self._alias(aws):
            aws.update_alias(FunctionName=self._place.function, Name=ALIAS, **wanted)
            return
        aws.create_alias(FunctionName=self._place.function, Name=ALIAS, **wanted)
        aws.create_function_url_config(FunctionName=self._place.function, Qualifier=ALIAS, AuthType="AWS_IAM")

    def _alias(self, aws: Any) -> dict[str, Any] | None:
        """Where the alias points; None while there is none."""
        try:
            found = aws.get_alias(FunctionName=self._place.function, Name=ALIAS)
        except aws.exceptions.ResourceNotFoundException:
            return None
        routing = found.get("RoutingConfig") or {"AdditionalVersionWeights": {}}
        return {"FunctionVersion": found["FunctionVersion"], "RoutingConfig": routing}

    def _published(self, aws: Any, version: LiveVersion) -> str:
        """The function version of a bundle, published where there is none yet."""
        exists = self._existing(aws)
        if exists and (known := self._find(aws, version)):
            return known
        code = self._code(self._package(version))
        if exists:
            aws.update_function_code(FunctionName=self._place.function, **code)
            aws.get_waiter("function_updated_v2").wait(FunctionName=self._place.function, WaiterConfig=_WAIT)
        else:
            self._create(aws, code)
        published = aws.publish_version(FunctionName=self._place.function, Description=version.digest)
        number = str(published["Version"])
        waiter = aws.get_waiter("published_version_active")
        waiter.wait(FunctionName=self._place.function, Qualifier=number, WaiterConfig=_WAIT)
        return number

    def _create(self, aws: Any, code: dict[str, Any]) -> None:
        place = self._place
        if not place.role:
            raise DeliveryError("a Lambda function runs as a role, and none is named; see docs/targets.md, then "
                                "set aws_lambda.role in params.yaml")  # fmt: skip
        aws.create_function(
            FunctionName=place.function,
            Runtime=f"python{place.python}",
            Handler=place.handler,
            Role=place.role,
            Architectures=[place.architecture],
            MemorySize=place.memory_mb,
            Timeout=60,
            Environment={"Variables": {"OMP_NUM_THREADS": "1"}},
            Tags=_MARK,
            Code=code,
        )
        aws.get_waiter("function_active_v2").wait(FunctionName=place.function, WaiterConfig=_WAIT)

    def _code(self, package: Path) -> dict[str, Any]:
        """The zip itself, or where in S3 it was put."""
        if package.stat().st_size <= self._place.direct_limit:
            return {"ZipFile": package.read_bytes()}
        if self._place.bucket is None:
            raise DeliveryError(f"{package.name} takes {package.stat().st_size / 2**20:.0f} MB, too much for a direct "
                                "upload; set aws_lambda.bucket in params.yaml")  # fmt: skip
        key = f"lyrics-lm/{package.name}"
        boto3.client("s3").upload_file(str(package), self._place.bucket, key)
        return {"S3Bucket": self._place.bucket, "S3Key": key}

    def _existing(self, aws: Any) -> bool:
        """Whether the function is there; raises `DeliveryError` for one that somebody else made."""
        try:
            found = aws.get_function(FunctionName=self._place.function)
        except aws.exceptions.ResourceNotFoundException:
            return False
        if not _MARK.items() <= found.get("Tags", {}).items():
            raise DeliveryError(
                f"the function {self._place.function} was not made by lyrics-lm; name another in aws_lambda.function"
            )
        return True

    def _number(self, aws: Any, version: LiveVersion) -> str:
        return self._find(aws, version) or self._published(aws, version)

    def _find(self, aws: Any, version: LiveVersion) -> str | None:
        pages = aws.get_paginator("list_versions_by_function").paginate(FunctionName=self._place.function)
        published = [one for page in pages for one in page["Versions"] if one["Version"] != "$LATEST"]
        return next((str(one["Version"]) for one in published if one.get("Description") == version.digest), None)

    def _try(self, aws: Any, qualifier: str) -> None:
        """Ask for a few tokens, as a function URL would; raises `DeliveryError` when they do not come."""
        about = {"http": {"method": "POST", "path": "/v1/completions"}, "stage": "$default"}
        event = {"rawPath": "/v1/completions", "requestContext": about, "body": json.dumps(_SMOKE)}
        answer = aws.invoke(FunctionName=self._place.function, Qualifier=qualifier, Payload=json.dumps(event).encode())
        said = answer["Payload"].read().decode(errors="replace")
        try:
            status = json.loads(said)["statusCode"]
        except (ValueError, TypeError, KeyError):
            status = None
        if answer.get("FunctionError") or status != 200:
            raise DeliveryError(
                f"version {qualifier} of {self._place.function} does not answer: {said[:200]}; see its logs"
            )


class _told:
    """A client for Lambda, whose errors are told in one line."""

    def __init__(self, function: str) -> None:
        self._function = function

    def __enter__(self) -> Any:
        try:
            return boto3.client("lambda")
        except BotoCoreError as error:
            raise self._as_delivery_error(error) from error

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (BotoCoreError, ClientError)):
            raise self._as_delivery_error(error) from error

    def _as_delivery_error(self, error: Exception) -> DeliveryError:
        said = " ".join(str(error).split())
        return DeliveryError(f"AWS refuses for the function {self._function}: {said}; check AWS_REGION, your "
                             "credentials and the policy in docs/targets.md")  # fmt: skip
