"""What the API says of itself, and whether it holds: asked by Schemathesis, which reads the document and breaks rules.

For more than a few cases: CASES=20000 python -m pytest -n0 tests/unit/serving/test_openapi.py
"""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bundles import bigram_bundle
from lyrics_lm.inference.generator import Generator
from servers import Server, serving

CASES = int(os.environ.get("CASES", "60"))  # for each operation, and as many steps of what follows from answers
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
PATIENT = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(serving(Generator(bigram_bundle(tmp_path_factory.mktemp("bundles") / "tiny")))) as running:
        yield running


@pytest.fixture(scope="module")
def document(server):
    """As it is served; what the document cannot say (that `best_of` is `n`) may be refused where it is broken."""
    config = schemathesis.Config()
    config.projects.default.checks.positive_data_acceptance.enabled = False
    config.projects.default.checks.negative_data_rejection.enabled = False  # it knows no 413
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=config)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", ["/v1/completions", "/generate", "/lines"])
@pytest.mark.timeout(0)
def test_every_answer_is_as_the_document_says(document, path, mode):
    """Right and wrong requests, whatever is in them: an answer of the shape that is told, never a fault of ours."""

    @given(case=document[path]["POST"].as_strategy(generation_mode=mode))
    @PATIENT
    def ask(case):
        case.call_and_validate(checks=CHECKS, timeout=30)

    ask()


@pytest.mark.timeout(0)
def test_what_follows_from_an_answer_holds_too(document):
    """The version that an answer names can be looked up, and so on, in any order."""
    machine = document.as_state_machine()
    machine.run(settings=settings(PATIENT, max_examples=max(5, CASES // 6), stateful_step_count=6))


def test_the_document_is_whole(server):
    """Every path that takes a question is in it, and every name that it uses is explained."""
    told = server.client.get("/openapi.json").json()
    assert set(told["paths"]) == {"/v1/completions", "/generate", "/lines", "/v1/models", "/v1/models/{model}"}
    names = {part.split('"')[0] for part in server.client.get("/openapi.json").text.split("#/components/schemas/")[1:]}
    assert names <= set(told["components"]["schemas"])
