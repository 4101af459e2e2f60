import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lyrics_lm.params import ModelParams
from lyrics_lm.training.transformer import Transformer, norm

VOCAB = 11
torch.set_num_threads(1)  # more gain nothing at these sizes, and the machine may be busy


def made(context=5, layers=2, width=16, heads=2, seed=0):
    """A transformer with no weight left at zero, so that every path shows in the logits."""
    torch.manual_seed(seed)
    model = Transformer(VOCAB, context, layers, width, heads, 11)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=1.0 if weight is model.embedding.weight else 0.3)
    return model.eval()


def texts(batch, time, seed=0):
    return torch.randint(VOCAB, (batch, time), generator=torch.Generator().manual_seed(seed))


def empty(model, batch):
    return [torch.zeros((batch, *spec.shape), dtype=getattr(torch, spec.dtype)) for spec in model.state]


@st.composite
def chunkings(draw):
    """A context, and per reading the lengths of its rows: two rows of one text may end far apart."""
    batch = draw(st.integers(1, 3))
    lengths = st.lists(st.integers(1, 9), min_size=batch, max_size=batch)
    return draw(st.integers(1, 6)), draw(st.lists(lengths, min_size=1, max_size=5))


@given(chunkings(), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
@torch.inference_mode()
def test_reading_in_pieces_is_reading_at_once(chunking, seed):
    """Ragged rows, padded with anything, in pieces of any length, far past the window: the same logits."""
    context, readings = chunking
    model = made(context)
    batch = len(readings[0])
    totals = [sum(lengths[row] for lengths in readings) for row in range(batch)]
    whole = texts(batch, max(totals), seed)
    padding = torch.Generator().manual_seed(seed + 1)
    state, read = empty(model, batch), [0] * batch
    rows: list[list[torch.Tensor]] = [[] for _ in range(batch)]
    for lengths in readings:
        tokens = torch.randint(VOCAB, (batch, max(lengths)), generator=padding)
        for row, length in enumerate(lengths):
            tokens[row, :length] = whole[row, read[row] : read[row] + length]
            read[row] += length
        logits, *state = model.step(tokens, torch.tensor(lengths), *state)
        for row, length in enumerate(lengths):
            rows[row].append(logits[row, :length])
    expected = model(whole)
    for row, total in enumerate(totals):
        torch.testing.assert_close(torch.cat(rows[row]), expected[row, :total], atol=1e-4, rtol=0)
    assert state[-1].tolist() == totals


@torch.inference_mode()
def test_a_long_text_token_by_token():
    """Three hundred steps with a window of eight: nothing drifts as positions grow."""
    model, text = made(8), texts(2, 300)
    state, steps = empty(model, 2), []
    for place in range(300):
        logits, *state = model.step(text[:, place : place + 1], torch.ones(2, dtype=torch.int64), *state)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), model(text), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_a_state_is_not_changed_in_place():
    """Two texts can go on from one point."""
    model = made()
    lengths = torch.tensor([3, 4])
    _, *state = model.step(texts(2, 4), lengths, *empty(model, 2))
    kept = [tensor.clone() for tensor in state]
    model.step(texts(2, 4, seed=1), lengths, *state)
    assert all(torch.equal(one, other) for one, other in zip(state, kept, strict=True))


@pytest.mark.parametrize("context", [1, 2, 5])
@torch.inference_mode()
def test_attention_reaches_exactly_its_context(context):
    """With one layer, a token shows in its own logits and those of the context - 1 after it, and, for n-grams
    of five tokens, of four more; in no others."""
    model, text = made(context, layers=1), texts(1, 14)
    changed = text.clone()
    changed[0, 4] = (changed[0, 4] + 1) % VOCAB
    differs = (model(text) != model(changed)).any(dim=-1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(4, 4 + context + 4))


@pytest.mark.parametrize("place", [1, 6, 13])
@torch.inference_mode()
def test_a_later_token_changes_no_earlier_logit(place):
    """In deep networks too, to the last bit; its own logits change."""
    model, text = made(layers=3), texts(2, 14)
    changed = text.clone()
    changed[:, place] = (changed[:, place] + 1) % VOCAB
    before, after = model(text), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert (before[:, place] != after[:, place]).any()


@torch.inference_mode()
def test_the_order_of_the_past_matters():
    """Positions are told apart: swapping two earlier tokens changes what comes."""
    model = made(context=8, layers=1)
    one, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[2, 1, 3, 4]])
    assert (model(one)[0, -1] - model(other)[0, -1]).abs().max() > 1e-3


@torch.inference_mode()
def test_where_in_a_text_a_window_stands_does_not_matter():
    """Only distances count: with one layer, after any past of any length, the same window says the same."""
    model, window = made(context=8, layers=1), texts(1, 8 + 4)  # its first token is read as an n-gram's last
    alone = model(window)[0, -1]
    for length in (1, 7, 400):
        moved = torch.cat([texts(1, length, seed=length), window], dim=1)
        torch.testing.assert_close(model(moved)[0, -1], alone, atol=1e-4, rtol=0)


def test_a_norm_leaves_unit_mean_square():
    """Whatever the scale of what comes in."""
    x = torch.randn(3, 5, 16) * torch.tensor([0.1, 1.0, 1e3])[:, None, None]
    torch.testing.assert_close(norm(x).square().mean(dim=-1), torch.ones(3, 5), atol=1e-3, rtol=0)


def test_an_untrained_network_says_nothing_yet():
    """All tokens are equally likely before the first step, so training begins at log V."""
    model = Transformer(VOCAB, 5, 2, 16, 2, 11)
    assert model(texts(2, 7)).abs().max() == 0


def test_parameters_of_the_default_size():
    """Two tables V x C, 12 C^2 a layer, four hashed tables of rows of 8 and what reads them: no more than the
    209 thousand of the tutorials' model."""
    size, vocab = ModelParams(), 60
    model = Transformer(vocab, size.context, size.layers, size.width, size.heads, size.ngrams)
    count = sum(weight.numel() for weight in model.parameters())
    tables = 4 * 8 * size.ngrams + 4 * 8 * size.width
    assert count == (2 * vocab + 1) * size.width + size.layers * 12 * size.width**2 + tables == 204_128


@pytest.mark.parametrize(("width", "heads"), [(30, 4), (12, 4), (9, 1)])
def test_a_width_that_heads_cannot_share_is_refused(width, heads):
    """Each head turns pairs of numbers, so its share must be even."""
    with pytest.raises(ValueError, match=f"width {width} is not a multiple of twice the {heads} heads"):
        Transformer(VOCAB, 5, 1, width, heads, 11)
