import numpy as np
import pytest

from bundles import (
    SUM_STATE,
    VOCAB,
    WIDTH,
    bigram_bundle,
    bigram_graph,
    endless_graph,
    graph_bundle,
    looking_ahead_graph,
    stateful_bundle,
    sum_graph,
    table,
    window_graph,
)
from lyrics_lm import bundle
from lyrics_lm.bundle import MODEL
from lyrics_lm.errors import ConformanceError
from lyrics_lm.inference import engine as engine_module
from lyrics_lm.inference import limit
from lyrics_lm.inference.engine import Engine
from lyrics_lm.records import KnownAnswer

SIZE = len(VOCAB) + 1
CONTEXT = 5
LENGTHS = (1, 23, 4, 11)
ANY = KnownAnswer((1,), (0.0,))


def rows(seed, lengths=LENGTHS):
    random = np.random.default_rng(seed)
    return [random.integers(SIZE, size=length) for length in lengths]


@pytest.fixture
def windows(tmp_path):
    return Engine(graph_bundle(tmp_path / "w", window_graph(table(SIZE, 0), table(SIZE, 1)), context=CONTEXT))


@pytest.fixture
def stateful(tmp_path):
    return Engine(stateful_bundle(tmp_path / "s"))


def window_reference(text):
    """Logits (T, V) of the window graph: each position sees its last CONTEXT tokens."""
    seen = [table(SIZE, 1)[text[max(0, t + 1 - CONTEXT) : t + 1]].sum(0) for t in range(len(text))]
    return table(SIZE, 0)[text] + np.stack(seen)


def sum_reference(text):
    """Logits (T, V) of the graph with a running sum."""
    return np.tanh(np.cumsum(table(SIZE, 0, WIDTH)[text] / 4, axis=0)) @ table(WIDTH, 1, SIZE)


@pytest.fixture(params=["windows", "stateful"])
def model(request):
    """An engine and the formula that it must follow."""
    reference = window_reference if request.param == "windows" else sum_reference
    return request.getfixturevalue(request.param), reference


@pytest.fixture(params=[None, (1, 1), (3, 700), (7, 40)])
def pieces(request, monkeypatch):
    """Limits of columns and logits that cut the reading into pieces, or the usual ones."""
    if request.param:
        monkeypatch.setattr(engine_module, "_MAX_COLUMNS", request.param[0])
        monkeypatch.setattr(engine_module, "_MAX_LOGITS", request.param[1])


def test_ragged_rows_follow_the_formula(model, pieces):
    """Rows of mixed lengths, read twice in a row, give what each gives by definition at every token."""
    engine, reference = model
    first, second = rows(0), rows(1, LENGTHS[::-1])
    state = engine.start(len(first))
    one, state = engine.advance_all(first, state)
    two, state = engine.advance_all(second, state)
    for place in range(len(first)):
        expected = reference(np.concatenate([first[place], second[place]]))
        actual = np.concatenate([one[place], two[place]])
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_advance_gives_the_last_of_advance_all(model, pieces):
    engine, _ = model
    everywhere, _ = engine.advance_all(rows(0), engine.start(len(LENGTHS)))
    last, _ = engine.advance(rows(0), engine.start(len(LENGTHS)))
    np.testing.assert_allclose(last, [logits[-1] for logits in everywhere], atol=1e-5)


def test_token_by_token_is_as_at_once(model):
    """200 steps of one token, far beyond the window, follow the formula too."""
    engine, reference = model
    (text,) = rows(3, [200])
    state, steps = engine.start(), []
    for token in text:
        logits, state = engine.advance([np.array([token])], state)
        steps.append(logits[0])
    np.testing.assert_allclose(steps, reference(text), atol=1e-4)


def test_a_state_can_be_used_again(model):
    """Advancing changes no state in place: two ways can go on from one point, in any order."""
    engine, _ = model
    _, state = engine.advance(rows(0), engine.start(len(LENGTHS)))
    once, _ = engine.advance(rows(1), state)
    engine.advance(rows(2), state)
    again, _ = engine.advance(rows(1), state)
    np.testing.assert_array_equal(once, again)


def test_a_graph_with_lengths_and_no_state_runs(tmp_path):
    """`lengths` may be absent without a state, and may be there."""
    graph = looking_ahead_graph(table(SIZE, 0), masked=True)
    engine = Engine(graph_bundle(tmp_path / "b", graph, context=4))
    assert engine.advance(rows(0), engine.start(len(LENGTHS)))[0].shape == (len(LENGTHS), SIZE)


def test_a_file_that_is_no_graph_is_refused_in_one_line(tmp_path):
    broken = bigram_bundle(tmp_path / "b")
    (broken.path / MODEL).write_bytes(b"not a graph\nat all")
    with pytest.raises(ConformanceError, match=r"model\.onnx does not load on CPU: .*; export it again") as caught:
        Engine(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("graph", "state", "message"),
    [
        (bigram_graph(table(SIZE, 0), input_name="input_ids"), (), "has inputs input_ids; .* asks for tokens"),
        (bigram_graph(table(SIZE, 0), output_name="scores"), (), "has outputs scores; the contract asks for logits"),
        (sum_graph(SIZE, 0), (), "has inputs tokens, lengths, total; the contract asks for tokens, lengths"),
        (bigram_graph(table(SIZE, 0)), SUM_STATE, "the contract asks for tokens, lengths, total"),
    ],
)
def test_names_that_are_not_the_contracts_are_refused(tmp_path, graph, state, message):
    """Both sets of names stand in the message."""
    written = graph_bundle(tmp_path / "b", graph, state=state, known=ANY)
    with pytest.raises(ConformanceError, match=message):
        Engine(written)


def test_a_graph_that_cannot_run_says_so_in_one_line(tmp_path):
    """A token beyond the table is ONNX Runtime's error, told as the bundle's fault."""
    engine = Engine(graph_bundle(tmp_path / "b", bigram_graph(table(4, 0)), known=ANY))
    with pytest.raises(ConformanceError, match=r"model\.onnx fails on 1 rows of up to 1 tokens: ") as caught:
        engine.advance([np.array([30])], engine.start())
    assert "\n" not in str(caught.value)


def test_one_engine_serves_several_threads(stateful):
    """Each call carries its own state, so callers do not disturb each other."""
    from concurrent.futures import ThreadPoolExecutor

    def read(seed):
        text = rows(seed, [30])[0]
        state, steps = stateful.start(), []
        for token in text:
            logits, state = stateful.advance([np.array([token])], state)
            steps.append(logits[0])
        return np.abs(np.array(steps) - sum_reference(text)).max()

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(read, range(16))) < 1e-4


def test_the_bundle_is_named(tmp_path):
    written = bigram_bundle(tmp_path / "b")
    assert Engine(bundle.read(tmp_path / "b")).bundle == written


def test_a_model_that_never_comes_back_is_broken_off(tmp_path, monkeypatch):
    """A loop without end is an error after the time that its tokens may take, and the engine serves on."""
    monkeypatch.setattr(limit, "_GRACE_SECONDS", 0.2)
    engine = Engine(graph_bundle(tmp_path / "endless", endless_graph(table(SIZE, 0)), context=CONTEXT))
    with pytest.raises(ConformanceError, match="it did not come back in time; take out what loops for ever"):
        engine.advance([np.array([SIZE - 1])], engine.start())
    logits, _ = engine.advance([np.array([3])], engine.start())
    np.testing.assert_allclose(logits[0], table(SIZE, 0)[3])
