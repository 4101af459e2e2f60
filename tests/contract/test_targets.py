"""One suite for every target: whatever the place, the same words do the same."""

import json

import boto3
import pytest
from moto import mock_aws

from lyrics_lm import params
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import LiveVersion, Verdict
from lyrics_lm.steps import places

VERDICT = Verdict("d", None, 0.0, ())


def version(number):
    return LiveVersion(number, f"{number:064x}", "tiny", "by hand", 3.0, f"bento:{number}", "/nowhere")


def local(home):
    from lyrics_lm.deployment.local import Local

    yield Local(home)


def aws_lambda(home):
    """Moto keeps functions, versions and aliases as AWS does; what a function answers is told to it."""
    from lyrics_lm.deployment.aws_lambda import Lambda, Place

    zipped = home / "package.zip"
    zipped.write_bytes(b"PK\x05\x06" + bytes(18))
    with mock_aws(config={"lambda": {"use_docker": False}}):
        policy = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}]}
        made = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(policy))
        place = Place("lyrics", made["Role"]["Arn"], "3.13", "x86_64", 512, None, "f.handler", 1_000_000)
        expect(200)
        yield Lambda(home, place, lambda _: zipped)


def container(home):
    from lyrics_lm.deployment.container import Container

    yield Container(home, lambda version: f"lyrics-lm:{version.version}")


def kubernetes(home):
    """No cluster is configured: the manifests are written, and nothing is asked."""
    from lyrics_lm.deployment.kubernetes import Kubernetes, Place

    yield Kubernetes(home, Place("songs", "gateway"), lambda version: f"lyrics-lm:{version.version}")


def expect(status, times=30):
    """What the functions of this account will answer."""
    from moto.awslambda_simple.models import lambda_simple_backends
    from moto.core import DEFAULT_ACCOUNT_ID

    backend = lambda_simple_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
    backend.lambda_simple_results_queue[:] = [json.dumps({"statusCode": status})] * times


PLACES = {"local": local, "lambda": aws_lambda, "container": container, "kubernetes": kubernetes}


@pytest.fixture(params=PLACES)
def target(request, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("KUBECONFIG", "/dev/null")
    yield from PLACES[request.param](tmp_path)


def shares(target):
    current = target.describe().current
    return {one.version: one.share for one in current.versions}


def test_a_first_version_takes_all_traffic_whatever_its_share(target):
    """There is nothing to share it with."""
    target.deploy(version(1), "first", VERDICT, share=5)
    assert shares(target) == {1: 100}


def test_a_version_serves_beside_the_champion_at_its_share(target):
    """And the champion keeps the rest, first in the record."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT, share=5)
    assert shares(target) == {1: 95, 2: 5}
    target.shift(25, "going well")
    assert list(shares(target).items()) == [(1, 75), (2, 25)]


def test_a_promoted_version_serves_alone_and_undo_skips_its_trial(target):
    """Undo brings back what served alone before, not a share of it."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT, share=5)
    target.shift(25, "going well")
    assert target.shift(100, "better").action == "promote"
    assert shares(target) == {2: 100}
    assert target.undo().action == "undo"
    assert shares(target) == {1: 100}


def test_an_aborted_trial_leaves_the_champion_alone(target):
    """And an undo after it goes to what served before the champion."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT)
    target.deploy(version(3), "tried", VERDICT, share=5)
    assert target.shift(0, "worse").action == "abort"
    assert shares(target) == {2: 100}
    target.undo()
    assert shares(target) == {1: 100}


def test_an_undo_in_the_middle_of_a_trial_ends_it(target):
    """The champion serves alone again."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT, share=25)
    target.undo()
    assert shares(target) == {1: 100}


def test_a_rollback_keeps_its_reason(target):
    """So that `why` tells it from an undo by hand."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT)
    back = target.undo("5% of its answers failed")
    assert (back.action, back.reason) == ("rollback", "5% of its answers failed")


def test_a_deployment_done_again_changes_nothing(target):
    """A delivery that was killed may be run again."""
    once = target.deploy(version(1), "first", VERDICT)
    assert target.deploy(version(1), "first", VERDICT) == once
    assert len(target.describe().history) == 1


def test_without_a_trial_there_is_nothing_to_shift(target):
    """A person is told so."""
    target.deploy(version(1), "first", VERDICT)
    with pytest.raises(DeliveryError, match="no version is being tried"):
        target.shift(25, "why not")
    with pytest.raises(DeliveryError, match="nothing to undo"):
        target.undo()


def test_a_place_torn_down_is_empty_and_can_be_used_again(target):
    """What it made is gone."""
    target.deploy(version(1), "first", VERDICT)
    target.tear_down()
    target.tear_down()
    assert target.describe().current is None
    assert target.logs(5) == []
    target.deploy(version(2), "again", VERDICT)
    assert shares(target) == {2: 100}


def test_a_target_that_is_none_is_refused_with_the_list(tmp_path):
    """A typing error costs one line."""
    settings = params.Settings(tmp_path, tmp_path, None, params.Params())
    with pytest.raises(DeliveryError, match="local, lambda"):
        places.place(settings, "lamda")
