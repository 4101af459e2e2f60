import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from lyrics_lm.inference import sampler
from lyrics_lm.inference.sampler import Draw, log_softmax, random_stream

DRAWS = 20_000
LOGITS = np.array([1.5, -0.5, 0.0, 2.0, -2.0, 0.7], dtype=np.float32)
EXACT = LOGITS.astype(np.float64)

rows_of_logits = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12).map(
    lambda row: np.array([row], dtype=np.float32)
)
uniforms = st.floats(0, 1, exclude_max=True)


def sample(logits, uniforms, temperature, top_p, forbidden, top_k=0):
    """Tokens of rows that are all drawn alike."""
    rows = len(logits)
    return sampler.sample(logits, uniforms, Draw.of([temperature] * rows, [top_p] * rows, [top_k] * rows, forbidden))


def draw(logits=LOGITS, *, temperature=1.0, top_p=1.0, forbidden=None, top_k=0, seed=1):
    rows = np.tile(logits, (DRAWS, 1))
    return sample(rows, random_stream(seed).random(DRAWS), temperature, top_p, forbidden, top_k)


def surprise(tokens, probabilities):
    """The p-value of Pearson's chi-square test of those tokens against those probabilities."""
    counts = np.bincount(tokens, minlength=len(probabilities))
    return stats.chisquare(counts, probabilities * len(tokens)).pvalue


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_softmax_says(temperature):
    """Over many draws, the counts fit softmax of the logits over the temperature."""
    assert surprise(draw(temperature=temperature), special.softmax(EXACT / temperature)) > 0.01


def test_the_rest_shares_what_a_forbidden_token_would_get():
    """Without the forbidden token, the others keep their proportions."""
    tokens = draw(forbidden=3)
    others = np.delete(np.arange(len(LOGITS)), 3)
    assert 3 not in tokens
    assert surprise(np.searchsorted(others, tokens), special.softmax(EXACT[others])) > 0.01


def test_inside_the_nucleus_proportions_are_kept():
    """Top-p 0.8 keeps the three likeliest tokens here, and draws them in proportion."""
    tokens = draw(top_p=0.8)
    kept = np.array([3, 0, 5])
    assert set(tokens) == set(kept)
    counts = np.array([(tokens == token).sum() for token in kept])
    assert stats.chisquare(counts, special.softmax(EXACT[kept]) * DRAWS).pvalue > 0.01


def test_temperature_zero_takes_the_likeliest_token():
    """Whatever the random number; of equals, the first."""
    logits = np.array([[0, 3, 1], [2, 0, 2]], dtype=np.float32)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        assert sample(logits, np.full(2, uniform), 0, 1.0, None).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-40, 1e-300, 5e-324])
def test_a_tiny_temperature_is_nearly_zero(temperature):
    """However small the temperature, the likeliest token is drawn and the forbidden one is not."""
    logits = np.array([[90, 1, 7, 5]], dtype=np.float32)
    assert sample(logits, np.array([0.3]), temperature, 1.0, 0).tolist() == [2]


@given(rows_of_logits, uniforms, st.floats(0.01, 0.999), st.floats(0.1, 2))
@settings(max_examples=150, deadline=None)
def test_the_nucleus_is_the_smallest_sufficient_set(logits, uniform, top_p, temperature):
    """The token drawn is one before which the likelier ones do not reach `top_p` together."""
    token = int(sample(logits, np.array([uniform]), temperature, top_p, None)[0])
    probabilities = special.softmax(logits[0].astype(np.float64) / temperature)
    assert probabilities[probabilities > probabilities[token]].sum() < top_p + 1e-9


def test_every_token_of_the_nucleus_can_be_drawn():
    """The set is not smaller than it must be: together its tokens reach `top_p`."""
    probabilities = special.softmax(EXACT)
    for top_p in (0.1, 0.5, 0.7, 0.95, 0.999):
        grid = np.linspace(0, 1, DRAWS, endpoint=False)
        kept = np.unique(sample(np.tile(LOGITS, (DRAWS, 1)), grid, 1.0, top_p, None))
        assert probabilities[kept].sum() >= top_p
        assert probabilities[kept].sum() - probabilities[kept].min() < top_p


@given(rows_of_logits, uniforms, st.floats(0, 2), st.floats(0.01, 1), st.data())
@settings(max_examples=150, deadline=None)
def test_a_forbidden_token_is_never_drawn(logits, uniform, temperature, top_p, data):
    """Not at any temperature, nucleus or random number, even where it is the likeliest."""
    forbidden = data.draw(st.integers(0, logits.shape[1] - 1))
    before = logits.copy()
    token = int(sample(logits, np.array([uniform]), temperature, top_p, forbidden)[0])
    assert token != forbidden
    assert 0 <= token < logits.shape[1]
    assert (logits == before).all()


def test_a_row_does_not_depend_on_its_neighbours():
    """In a batch and alone, the same logits and random number give the same token."""
    random = np.random.default_rng(0)
    logits, numbers = random.normal(size=(50, 9)).astype(np.float32), random.random(50)
    together = sample(logits, numbers, 0.8, 0.9, 2)
    alone = [int(sample(logits[[row]], numbers[[row]], 0.8, 0.9, 2)[0]) for row in range(50)]
    assert together.tolist() == alone


def test_log_softmax_is_exact_where_exponentials_overflow():
    """Large logits neither overflow nor lose the small ones."""
    logits = np.array([[1e4, 1e4 - 1, -1e4]], dtype=np.float32)
    np.testing.assert_allclose(log_softmax(logits), special.log_softmax(logits.astype(np.float64), axis=-1))


def test_a_stream_is_repeatable():
    """The same seed and choice give the same numbers, drawn one by one or at once."""
    numbers = random_stream(7, 3)
    assert [numbers.random(1)[0] for _ in range(100)] == random_stream(7, 3).random(100).tolist()


def test_streams_are_independent():
    """Neighbouring seeds and choices share no number and are uncorrelated."""
    keys = [(seed, choice) for seed in (0, 1, 2**63 - 1) for choice in (0, 1, 2)]
    drawn = np.array([random_stream(*key).random(5000) for key in keys])
    assert len(np.unique(drawn)) == drawn.size
    correlation = np.corrcoef(drawn) - np.eye(len(keys))
    assert abs(correlation).max() < 0.06
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 0.01


def test_a_negative_seed_is_a_seed():
    """All of the signed 64-bit range gives streams of their own, whatever the choice."""
    seeds = (-(2**63), 1 - 2**63, -1025, -2, -1, 0, 1, 2**63 - 2, 2**63 - 1)
    assert len({random_stream(seed, choice).random() for seed in seeds for choice in (0, 1)}) == 2 * len(seeds)


def test_each_row_is_drawn_by_its_own_settings():
    """Greedy, narrowed and plain rows beside each other get what each would get alone."""
    random = np.random.default_rng(3)
    logits, numbers = random.normal(size=(60, 9)).astype(np.float32), random.random(60)
    heat, share, most = (
        [values[row % 3] for row in range(60)] for values in ([0.0, 0.7, 1.3], [1.0, 0.6, 0.9], [0, 3, 0])
    )
    together = sampler.sample(logits, numbers, Draw.of(heat, share, most, 2))
    alone = [int(sample(logits[[row]], numbers[[row]], heat[row], share[row], 2, most[row])[0]) for row in range(60)]
    assert together.tolist() == alone


def test_top_k_keeps_the_likeliest():
    """So many tokens, in proportion."""
    tokens = draw(top_k=2)
    kept = np.array([3, 0])
    assert set(tokens) == set(kept)
    counts = np.array([(tokens == token).sum() for token in kept])
    assert stats.chisquare(counts, special.softmax(EXACT[kept]) * DRAWS).pvalue > 0.01
