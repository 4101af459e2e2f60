import collections

import numpy as np
import pytest

from lyrics_lm.training.ngram import Ngram

VOCAB = 5


def text(count, seed=0):
    """Tokens of which each depends a little on the one before."""
    random = np.random.default_rng(seed)
    tokens = [0]
    for _ in range(count - 1):
        tokens.append((tokens[-1] + int(random.choice(3, p=[0.6, 0.3, 0.1]))) % VOCAB)
    return np.array(tokens, dtype=np.uint16)


def by_hand(training, history, token, order):
    """Witten-Bell as the paper has it, with dictionaries."""
    chance = 1 / VOCAB
    for length in range(1, order + 1):
        past = tuple(history[len(history) - length + 1 :]) if length > 1 else ()
        if length - 1 > len(history):
            break
        after = collections.Counter(
            training[place + length - 1]
            for place in range(len(training) - length + 1)
            if tuple(training[place : place + length - 1]) == past
        )
        if after:
            chance = (after[token] + len(after) * chance) / (after.total() + len(after))
    return chance


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_chances_are_those_of_the_paper(order):
    """Of tokens with a short past and a long one, seen and never seen."""
    training, held_out = text(300).tolist(), text(40, seed=1)
    found = np.exp(Ngram(np.array(training), VOCAB, order).log_probabilities(held_out))
    for place in range(1, len(held_out)):
        history = held_out[max(0, place - order + 1) : place].tolist()
        assert found[place - 1] == pytest.approx(by_hand(training, history, int(held_out[place]), order))


@pytest.mark.parametrize("order", [1, 4])
def test_chances_of_all_tokens_add_up_to_one(order):
    """After any history, also one that was never seen."""
    model = Ngram(text(200), VOCAB, order)
    for history in ([1, 2, 3], [4, 0, 2], [3, 3, 3]):
        every = [np.exp(model.log_probabilities(np.array([*history, token]))[-1]) for token in range(VOCAB)]
        assert sum(every) == pytest.approx(1)


def test_a_longer_history_tells_more():
    """On text that depends on its past, up to what the corpus can show."""
    training, held_out = text(20_000), text(5000, seed=1)
    losses = [-Ngram(training, VOCAB, order).log_probabilities(held_out).mean() for order in (1, 2)]
    assert losses[1] < 0.7 * losses[0]


def test_a_large_vocabulary_lowers_the_order():
    """As far as n-grams can be told apart by a 64-bit number."""
    assert Ngram(text(50), 60_000, 5).order == 3
    assert Ngram(text(50), 2000, 5).order == 5
