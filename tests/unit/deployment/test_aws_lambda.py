"""AWS Lambda where things are not as usual: packages too large, functions of others, versions that do not answer."""

import json

import boto3
import pytest
from moto import mock_aws
from moto.awslambda_simple.models import lambda_simple_backends
from moto.core import DEFAULT_ACCOUNT_ID

from lyrics_lm.deployment.aws_lambda import ALIAS, Lambda, Place
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import LiveVersion, Verdict

VERDICT = Verdict("d", None, 0.0, ())
REGION = "us-east-1"
ZIP = b"PK\x05\x06" + bytes(18)


def version(number):
    return LiveVersion(number, f"{number:064x}", "tiny", "by hand", 3.0, f"bento:{number}", "/nowhere")


@pytest.fixture
def account(tmp_path, monkeypatch):
    """Moto in the place of AWS; returns a function that makes targets in it."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    (tmp_path / "package.zip").write_bytes(ZIP)
    with mock_aws(config={"lambda": {"use_docker": False}}):
        policy = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}]}
        role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(policy))["Role"]["Arn"]

        def make(bucket=None, direct_limit=1_000_000, role=role):
            place = Place("lyrics", role, "3.13", "x86_64", 512, bucket, "f.handler", direct_limit)
            return Lambda(tmp_path, place, lambda _: tmp_path / "package.zip")

        yield make


def answers(*statuses):
    """What the function says, call after call."""
    backend = lambda_simple_backends[DEFAULT_ACCOUNT_ID][REGION]
    backend.lambda_simple_results_queue[:] = [json.dumps({"statusCode": status}) for status in statuses]


def test_a_large_package_goes_through_s3(account):
    """Into the bucket that is named, from where the function is made."""
    boto3.client("s3").create_bucket(Bucket="packages")
    answers(200, 200)
    account(bucket="packages", direct_limit=10).deploy(version(1), "first", VERDICT)
    [stored] = boto3.client("s3").list_objects_v2(Bucket="packages")["Contents"]
    assert (stored["Key"], stored["Size"]) == ("lyrics-lm/package.zip", len(ZIP))


def test_a_large_package_without_a_bucket_is_refused(account):
    """Before anything is made."""
    with pytest.raises(DeliveryError, match="too much for a direct upload; set aws_lambda.bucket"):
        account(direct_limit=10).deploy(version(1), "first", VERDICT)
    assert boto3.client("lambda").list_functions()["Functions"] == []


def test_a_function_of_somebody_else_is_left_alone(account):
    """Neither changed nor deleted."""
    client, target = boto3.client("lambda"), account()
    role = target._place.role
    client.create_function(
        FunctionName="lyrics", Runtime="python3.13", Role=role, Handler="theirs", Code={"ZipFile": ZIP}
    )
    for touch in (lambda: target.deploy(version(1), "first", VERDICT), target.tear_down):
        with pytest.raises(DeliveryError, match="was not made by lyrics-lm; name another"):
            touch()
    assert client.get_function_configuration(FunctionName="lyrics")["Handler"] == "theirs"


def test_a_version_that_does_not_answer_never_gets_traffic(account):
    """Tried under its own number first: the alias and the record stay where they were."""
    target = account()
    answers(200, 200, 500)
    target.deploy(version(1), "first", VERDICT)
    before = target.describe()
    with pytest.raises(DeliveryError, match="version 2 of lyrics does not answer"):
        target.deploy(version(2), "better", VERDICT)
    assert target.describe() == before
    assert boto3.client("lambda").get_alias(FunctionName="lyrics", Name=ALIAS)["FunctionVersion"] == "1"


def test_what_fails_through_the_alias_is_taken_back(account):
    """It answered alone, and not where clients ask: the alias points where it did."""
    target = account()
    answers(200, 200, 200, 500)
    target.deploy(version(1), "first", VERDICT)
    before = target.describe()
    with pytest.raises(DeliveryError, match="version live of lyrics does not answer"):
        target.deploy(version(2), "better", VERDICT)
    assert target.describe() == before
    assert boto3.client("lambda").get_alias(FunctionName="lyrics", Name=ALIAS)["FunctionVersion"] == "1"


def test_a_role_is_asked_for(account):
    """Lambda makes no function without one."""
    with pytest.raises(DeliveryError, match="set aws_lambda.role in params.yaml"):
        account(role=None).deploy(version(1), "first", VERDICT)
