import hashlib
import json
import math

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from bundles import (
    SUM_STATE,
    UNKNOWN,
    VOCAB,
    WIDTH,
    bigram_bundle,
    bigram_graph,
    character_tokenizer,
    graph_bundle,
    looking_ahead_graph,
    stateful_bundle,
    sum_graph,
    table,
    window_graph,
)
from lyrics_lm.evaluation import conformance
from lyrics_lm.inference.engine import Engine
from lyrics_lm.records import KnownAnswer, StateSpec

SIZE = len(VOCAB) + 1
RULES = [
    "files",
    "manifest",
    "model",
    "vocabulary",
    "known answer",
    "tokenizer",
    "batch",
    "steps",
    "generation",
]
ANY = KnownAnswer((1,), (0.0,) * SIZE)


def failing(bundle, rule, observed):
    """The bundle fails exactly that rule; returns its result, which says what to do in one line."""
    checked = conformance.check(bundle.path)
    assert not checked.passed
    assert [result.rule for result in checked.rules if not result.passed] == [rule]
    assert checked.failure is not None
    assert observed in checked.failure.observed
    assert checked.failure.remedy
    assert "\n" not in checked.failure.observed + checked.failure.remedy
    return checked.failure


def _replace(bundle, name, data):
    """Change a file of a bundle and its entry in the contract."""
    (bundle.path / name).write_bytes(data)
    contract = json.loads((bundle.path / "contract.json").read_bytes())
    contract["files"][name] = hashlib.sha256(data).hexdigest()
    (bundle.path / "contract.json").write_text(json.dumps(contract))


def test_a_bundle_without_state_passes_every_rule(tmp_path):
    """The plainest export there is conforms; digest, size and load time are reported."""
    bundle = bigram_bundle(tmp_path / "b")
    checked = conformance.check(bundle.path)
    assert [result.rule for result in checked.rules] == RULES
    assert (checked.passed, checked.failure) == (True, None)
    assert (checked.digest, checked.size_bytes) == (bundle.digest, bundle.size)
    assert 0 < checked.load_seconds < 10


def test_a_bundle_with_state_passes_every_rule(tmp_path):
    assert conformance.check(stateful_bundle(tmp_path / "b").path).passed


def test_a_bundle_with_a_window_passes_every_rule(tmp_path):
    graph = window_graph(table(SIZE, 0), table(SIZE, 1))
    assert conformance.check(graph_bundle(tmp_path / "b", graph, context=6).path).passed


def test_what_is_no_bundle_fails_the_first_rule_and_ends_there(tmp_path):
    """A changed file is the failing rule with the file's name, and nothing else is tried."""
    bundle = bigram_bundle(tmp_path / "b")
    with open(bundle.path / "model.onnx", "ab") as file:
        file.write(b"\0")
    result = failing(bundle, "files", "model.onnx is not the file its contract lists")
    assert result.remedy == "copy or export the bundle again"
    checked = conformance.check(tmp_path / "nowhere")
    assert (checked.digest, checked.size_bytes, len(checked.rules)) == (None, 0, 1)


def test_a_contract_that_is_no_json_is_a_failing_rule(tmp_path):
    """The parser's words are the observation, and there is a remedy all the same."""
    bundle = bigram_bundle(tmp_path / "b")
    (bundle.path / "contract.json").write_text("{")
    assert failing(bundle, "files", "does not follow the contract").remedy == "export it again"


@pytest.mark.parametrize(
    ("change", "observed"),
    [
        ({"vocab_size": 0}, "vocab_size 0"),
        ({"context": 0}, "context 0"),
        ({"known_answer": KnownAnswer((), ())}, "has no tokens"),
        ({"known_answer": KnownAnswer((SIZE,), (0.0,) * SIZE)}, f"token {SIZE} outside the vocabulary"),
        ({"known_answer": KnownAnswer((-1,), (0.0,) * SIZE)}, "token -1 outside the vocabulary"),
        ({"state": (StateSpec("h", (4,), "float31"),)}, "dtype 'float31'"),
        ({"state": (StateSpec("h", (-4,), "float32"),)}, "shape [-4]"),
        ({"state": (StateSpec("h", (10**9, 10**9), "float32"),)}, "shape [1000000000, 1000000000]"),
        ({"state": (StateSpec("tokens", (4,), "float32"),)}, "'tokens' twice"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(tmp_path, change, observed):
    """Sizes below one, tokens outside the vocabulary and states that no machine could hold."""
    facts = {"known_answer": ANY, **change}
    failing(graph_bundle(tmp_path / "b", bigram_graph(table(SIZE, 0)), known=ANY, **facts), "manifest", observed)


def test_wrong_tensor_names_are_refused_with_the_right_ones(tmp_path):
    graph = bigram_graph(table(SIZE, 0), input_name="input_ids")
    result = failing(graph_bundle(tmp_path / "b", graph, known=ANY), "model", "has inputs input_ids")
    assert result.remedy == "rename them at export"


def test_weights_outside_the_folder_are_never_read(tmp_path):
    """A graph whose weights lie in a file beside the bundle does not load."""
    graph = bigram_graph(table(SIZE, 0))
    weights = graph.graph.initializer[0]
    (tmp_path / "secret.bin").write_bytes(weights.raw_data)
    facts = {"location": "../secret.bin", "offset": "0", "length": str(len(weights.raw_data))}
    weights.ClearField("raw_data")
    weights.data_location = weights.EXTERNAL
    for key, value in facts.items():
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    bundle = bigram_bundle(tmp_path / "b")
    _replace(bundle, "model.onnx", graph.SerializeToString())
    failing(bundle, "model", "does not load on CPU")


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    bundle = graph_bundle(tmp_path / "b", bigram_graph(table(SIZE, 0)), tokenizer=character_tokenizer("abc"))
    failing(bundle, "vocabulary", f"tokenizer.json has 4 tokens, contract.json says vocab_size {SIZE}")


def test_logits_of_another_size_are_refused(tmp_path):
    graph = bigram_graph(table(SIZE, 0, SIZE + 1))
    bundle = graph_bundle(tmp_path / "b", graph, known=ANY)
    failing(bundle, "vocabulary", f"logits is float32 [2, 3, {SIZE + 1}]")


def test_logits_of_another_type_are_refused(tmp_path):
    """float64 logits would not fit where float32 ones are expected."""
    graph = bigram_graph(table(SIZE, 0).astype(np.float64))
    graph.graph.output[0].type.tensor_type.elem_type = 11
    failing(graph_bundle(tmp_path / "b", graph, known=ANY), "vocabulary", "logits is float64")


def test_a_state_of_another_shape_is_refused(tmp_path):
    """The graph cannot run on the state that the manifest declares."""
    state = (StateSpec("total", (WIDTH + 1,), "float32"),)
    bundle = graph_bundle(tmp_path / "b", sum_graph(SIZE, 0), state=state, known=ANY)
    failing(bundle, "vocabulary", "model.onnx fails on 2 rows of up to 3 tokens")


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    bundle = bigram_bundle(tmp_path / "b")
    _replace(bundle, "tokenizer.json", b"{}")
    failing(bundle, "vocabulary", "is not a tokenizers file")


def test_a_wrong_known_answer_is_refused(tmp_path):
    """A thousandth off in one logit is too much."""
    good = bigram_bundle(tmp_path / "good").manifest.known_answer
    wrong = KnownAnswer(good.tokens, (*good.logits[:-1], float(good.logits[-1]) + 1e-3))
    bundle = graph_bundle(tmp_path / "b", bigram_graph(table(SIZE, 0)), known_answer=wrong)
    failing(bundle, "known answer", "differ from the known answer by 0.001")


def test_a_known_answer_within_a_ten_thousandth_passes(tmp_path):
    good = bigram_bundle(tmp_path / "good").manifest.known_answer
    near = KnownAnswer(good.tokens, (*good.logits[:-1], float(good.logits[-1]) + 5e-5))
    bundle = graph_bundle(tmp_path / "b", bigram_graph(table(SIZE, 0)), known_answer=near)
    assert conformance.check(bundle.path).passed


def test_a_known_answer_after_each_token_is_compared_at_each(tmp_path):
    """(T, V) logits pass when all agree, and fail when only the first is off."""
    logits = table(SIZE, 0)
    each = [[float(value) for value in logits[token]] for token in (2, 5)]
    answer = KnownAnswer((2, 5), tuple(tuple(row) for row in each))
    assert conformance.check(graph_bundle(tmp_path / "a", bigram_graph(logits), known_answer=answer).path).passed
    each[0][0] += 0.01
    answer = KnownAnswer((2, 5), tuple(tuple(row) for row in each))
    failing(graph_bundle(tmp_path / "b", bigram_graph(logits), known_answer=answer), "known answer", "by 0.01")


@pytest.mark.parametrize(
    ("logits", "observed"),
    [
        ((0.0,) * (SIZE - 1), f"has logits [{SIZE - 1}], the model gives [{SIZE}]"),
        (((0.0,) * SIZE,) * 3, f"has logits [3, {SIZE}], the model gives [2, {SIZE}]"),
        ((0.0, (0.0, 1.0)), "rows of different lengths"),
    ],
)
def test_a_known_answer_of_another_shape_is_refused(tmp_path, logits, observed):
    bundle = graph_bundle(tmp_path / "b", bigram_graph(table(SIZE, 0)), known_answer=KnownAnswer((2, 5), logits))
    failing(bundle, "known answer", observed)


def _with_tokenizer(tmp_path, tokenizer):
    return graph_bundle(tmp_path / "b", bigram_graph(table(SIZE, 0)), tokenizer=tokenizer)


def test_a_tokenizer_that_fails_on_a_stranger_is_refused(tmp_path):
    """Unknown characters must map to an unknown token, never to an error."""
    words = {character: place for place, character in enumerate("\0" + VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    result = failing(_with_tokenizer(tmp_path, tokenizer), "tokenizer", "the tokenizer fails on")
    assert "unk_token" in result.remedy


def test_a_tokenizer_that_drops_a_stranger_is_refused(tmp_path):
    words = {character: place for place, character in enumerate("\0" + VOCAB)}
    tokenizer = Tokenizer(models.BPE(words, []))
    failing(_with_tokenizer(tmp_path, tokenizer), "tokenizer", "drops the character")


def test_a_tokenizer_that_does_not_round_trip_is_refused(tmp_path):
    """Without its decoder a character tokenizer puts a blank between all characters."""
    tokenizer = character_tokenizer()
    tokenizer.decoder = None
    result = failing(_with_tokenizer(tmp_path, tokenizer), "tokenizer", "decode to 'l   o   v   e")
    assert "Fuse" in result.remedy


@pytest.mark.parametrize("setting", ["enable_truncation", "enable_padding"])
def test_a_tokenizer_that_cuts_or_pads_is_refused(tmp_path, setting):
    tokenizer = character_tokenizer()
    getattr(tokenizer, setting)(**({"max_length": 512} if setting == "enable_truncation" else {"length": 8}))
    failing(_with_tokenizer(tmp_path, tokenizer), "tokenizer", "cuts or pads")


def test_padding_that_enters_the_state_is_refused(tmp_path):
    """A graph that ignores `lengths` in its next state disturbs the shorter rows of a batch."""
    bundle = graph_bundle(tmp_path / "b", sum_graph(SIZE, 0, masked=False), state=SUM_STATE)
    result = failing(bundle, "batch", "in one batch differ from each alone")
    assert "mask the padding" in result.remedy


def test_padding_that_enters_the_logits_is_refused(tmp_path):
    bundle = graph_bundle(tmp_path / "b", looking_ahead_graph(table(SIZE, 0), masked=False), context=16)
    rules = {result.rule: result.passed for result in conformance.check(bundle.path).rules}
    assert not rules["batch"]


def test_a_graph_that_looks_ahead_is_refused(tmp_path):
    """It would score far better than it can write: each position must see only what came before."""
    bundle = graph_bundle(tmp_path / "b", looking_ahead_graph(table(SIZE, 0), masked=True), context=16)
    failing(bundle, "steps", "after token 1 of 16, reading at once and token by token differ")


def test_logits_that_are_no_numbers_are_refused(tmp_path):
    """Also where only a token that the known answer never meets gives them."""
    logits = table(SIZE, 0)
    logits[20:] = np.nan
    bundle = graph_bundle(tmp_path / "b", bigram_graph(logits))
    checked = conformance.check(bundle.path)
    result = {each.rule: each for each in checked.rules}["generation"]
    assert not result.passed
    assert "are not finite" in result.observed


def test_an_infinite_logit_is_refused(tmp_path):
    logits = table(SIZE, 0)
    logits[:, 30] = -np.inf
    bundle = graph_bundle(tmp_path / "b", bigram_graph(logits), known_answer=ANY)
    rules = {result.rule: result.passed for result in conformance.check(bundle.path).rules}
    assert not rules["generation"]


def test_a_hole_in_the_vocabulary_is_refused(tmp_path):
    """As many tokens as the logits have, but one number is left out: it could be drawn and never be text."""
    words = {UNKNOWN: 0, **{character: place + 1 for place, character in enumerate(VOCAB)}}
    words[VOCAB[5]] = SIZE + 3
    tokenizer = character_tokenizer()
    tokenizer.model = models.WordLevel(words, unk_token=UNKNOWN)
    bundle = graph_bundle(tmp_path / "b", bigram_graph(table(SIZE, 0) * 0), tokenizer=tokenizer)
    rules = {result.rule: result for result in conformance.check(bundle.path).rules}
    assert rules["generation"].observed == "the tokenizer has no token 6"


def test_an_exception_while_running_is_a_failing_rule(tmp_path):
    """A graph that runs on small tokens and fails on others fails rules, with no traceback."""
    bundle = graph_bundle(tmp_path / "b", bigram_graph(table(10, 0, SIZE)), known=ANY)
    checked = conformance.check(bundle.path)
    results = {result.rule: result for result in checked.rules}
    assert "model.onnx fails on" in results["batch"].observed
    assert "dynamic batch and time axes" in results["batch"].remedy
    assert len(results) == len(RULES)


def test_the_known_answer_of_an_engine_is_its_last_logits(tmp_path):
    """Exporters write what this helper gives; it is plain numbers, fit for JSON."""
    engine = Engine(stateful_bundle(tmp_path / "b"))
    answer = conformance.known_answer(engine, np.array([4, 2, 9]))
    logits, _ = engine.advance([np.array([4, 2, 9])], engine.start())
    assert answer.tokens == (4, 2, 9)
    assert {type(value) for value in (*answer.tokens, *answer.logits)} == {int, float}
    np.testing.assert_allclose(np.array(answer.logits), logits[0], atol=1e-6)
    assert math.isfinite(sum(np.array(answer.logits)))
