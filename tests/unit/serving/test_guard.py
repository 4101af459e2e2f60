import asyncio

import numpy as np
import pytest

from bundles import VOCAB, bigram_graph, graph_bundle
from lyrics_lm.corpus import verbatim
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.scheduler import Scheduler
from lyrics_lm.records import LiveVersion
from lyrics_lm.serving.completions import Answer
from lyrics_lm.serving.guard import Guard
from lyrics_lm.serving.lines import KnownLines
from lyrics_lm.serving.live import Serving
from lyrics_lm.serving.types import CompletionRequest

LIMIT = 50
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
SONG = (ALPHABET + " ") * 4  # what the model below writes, once it has begun
OTHERS = [f"another song of {word}, which has nothing to do with it at all, whatever one may say" for word in "xyz"]


@pytest.fixture(scope="module")
def index():
    return verbatim.build([SONG, *OTHERS], ["Ann - The alphabet", "b", "c", "d"])


@pytest.fixture(scope="module")
def reciting(tmp_path_factory):
    """A model that says the alphabet, over and over."""
    logits = np.full((len(VOCAB) + 1, len(VOCAB) + 1), -50.0, dtype=np.float32)
    ids = {character: place + 1 for place, character in enumerate(VOCAB)}
    for one, following in zip(ALPHABET + " ", ALPHABET[1:] + " a", strict=True):
        logits[ids[one], ids[following]] = 50.0
    made = graph_bundle(tmp_path_factory.mktemp("reciting") / "bundle", bigram_graph(logits))
    generator = Generator(made)
    version = LiveVersion(1, made.digest, "reciting", "by hand", 1.0, "b:1", str(made.path))
    return Serving(generator, Scheduler(generator.batch), version, 0.0, "")


def answered(serving, guard, **asked):
    """The answer, the text as it was streamed, and its record."""

    async def whole():
        answer = Answer(CompletionRequest(prompt="a", max_tokens=90, **asked), serving, "1", guard)
        return await answer.whole(), next(answer.records())

    return asyncio.run(whole())


def test_a_text_stops_before_it_copies_too_much(index, reciting):
    """One character fewer than the limit is sent, the reason is OpenAI's, and the record tells it."""
    completion, record = answered(reciting, Guard(lambda: index, LIMIT))
    [choice] = completion.choices
    assert choice.text in SONG
    assert (len(choice.text), choice.finish_reason, record.finish) == (LIMIT - 1, "content_filter", "content_filter")
    assert record.text == choice.text


def test_scores_and_echo_keep_to_what_is_sent(index, reciting):
    """Nothing of what was held back shows in the scores; the prompt that is echoed does not count as copied."""
    completion, _ = answered(reciting, Guard(lambda: index, LIMIT), logprobs=1, echo=True)
    [choice] = completion.choices
    assert choice.text == "a" + SONG[1:LIMIT]
    assert "".join(choice.logprobs.tokens) == choice.text


@pytest.mark.parametrize("guard", [None, Guard(lambda: None, LIMIT)], ids=["no guard", "no index"])
def test_without_an_index_nothing_is_stopped(index, reciting, guard):
    """As in a Bento by itself; and a guard that finds nothing changes no character."""
    free, _ = answered(reciting, guard)
    assert (len(free.choices[0].text), free.choices[0].finish_reason) == (90, "length")
    elsewhere = verbatim.build(OTHERS, ["b", "c", "d"])
    assert answered(reciting, Guard(lambda: elsewhere, LIMIT))[0].choices == free.choices
    assert answered(reciting, Guard(lambda: index, 0))[0].choices == free.choices


@pytest.mark.parametrize("size", [1, 7, 200])
def test_it_does_not_matter_in_what_pieces_a_text_comes(index, size):
    """Cut anywhere, the same characters are allowed in all."""
    watch, text, sent = Guard(lambda: index, LIMIT).watch(), "la la la.\n" * 9 + SONG, ""
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        allowed = watch.allowed(piece)
        sent += piece[:allowed]
        if allowed < len(piece):
            break
    assert sent == text[: 9 * len("la la la.\n") + LIMIT - 1]


def test_a_damaged_index_is_told_and_stops_nothing(tmp_path, index, reciting, caplog):
    """It says so in the log, answers go on, and the next whole index is taken up."""
    index.save(tmp_path, "first")
    grams = tmp_path / "grams.npy"
    whole = grams.read_bytes()
    grams.write_bytes(whole[: len(whole) // 2])
    known = KnownLines(tmp_path)
    assert answered(reciting, Guard(known.index, LIMIT))[0].choices[0].finish_reason == "length"
    assert f"texts are not guarded against copying: {tmp_path} is damaged" in caplog.text
    grams.write_bytes(whole)
    (tmp_path / "corpus.txt").write_text("second")
    assert answered(reciting, Guard(known.index, LIMIT))[0].choices[0].finish_reason == "content_filter"
