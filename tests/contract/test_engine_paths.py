"""Every way the engine has of running a graph gives what the model gives, one text at a time, with no cache."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bundles import VOCAB, bigram_bundle, graph_bundle, stateful_bundle
from lyrics_lm.inference.generator import Generator
from lyrics_lm.inference.lanes import CHUNK, Reading, StateLanes, TableLanes, WindowLanes, lanes
from lyrics_lm.inference.stream import Sampling
from lyrics_lm.training.export import export
from lyrics_lm.training.transformer import Transformer

SIZE = len(VOCAB) + 1
CONTEXT = 12
KINDS = {"transformer": StateLanes, "sum": StateLanes, "convolution": WindowLanes, "bigram": TableLanes}
torch.set_num_threads(1)  # more gain nothing at these sizes, and the machine may be busy


class Convolution(torch.nn.Module):
    """Sees the last three tokens."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(SIZE, 8)
        self.mix = torch.nn.Conv1d(8, SIZE, 3)

    def forward(self, tokens):
        past = torch.nn.functional.pad(self.table(tokens).transpose(1, 2), (2, 0))
        return self.mix(past).transpose(1, 2)


def exported(network, folder, context, state=()):
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(std=0.3)
    export(network, context, SIZE, folder / "model.onnx")
    return graph_bundle(folder / "bundle", onnx.load(folder / "model.onnx"), context=context, state=state)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Of each kind, a generator and a function from a text (T) to the logits (T, V) of the model itself."""
    torch.manual_seed(4)
    places = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    transformer, convolution = Transformer(SIZE, CONTEXT, 2, 24, 2, 11), Convolution()
    made = {
        "transformer": exported(transformer, places["transformer"], CONTEXT, transformer.state),
        "sum": stateful_bundle(places["sum"] / "bundle"),
        "convolution": exported(convolution, places["convolution"], CONTEXT),
        "bigram": bigram_bundle(places["bigram"] / "bundle"),
    }
    generators = {kind: Generator(bundle) for kind, bundle in made.items()}

    def graph(kind):
        engine = generators[kind].engine
        return lambda text: engine.run([np.array(text)], engine.start().tensors)[0][0]

    def network(model):
        return lambda text: model(torch.tensor([text]))[0].detach().numpy()

    truth = {"transformer": network(transformer), "convolution": network(convolution)}
    return {kind: (generators[kind], truth.get(kind) or graph(kind)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_each_graph_runs_the_way_that_is_fastest_for_it(models, kind):
    """A state is carried, a table is looked up, and only a graph with neither is shown its window."""
    assert type(lanes(models[kind][0].engine)) is KINDS[kind]


texts = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=CHUNK + 9)
# What happens at a step: texts that join, and the rows (as shares of the batch) that leave after it.
steps = st.lists(st.tuples(st.lists(texts, max_size=4), st.lists(st.floats(0, 0.99), max_size=2)), max_size=8)


@pytest.mark.parametrize("kind", KINDS)
@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_texts_that_come_and_go_get_the_models_logits(models, kind, steps, random):
    """Ragged prompts read together, joins and leaves at any step, far past the window: within 1e-4."""
    generator, truth = models[kind]
    batch, running = lanes(generator.engine), []
    for joining, leaving in steps:
        readings = [Reading(np.array(text)) for text in joining]
        seen = [[] for _ in readings]
        while unread := [place for place, reading in enumerate(readings) if reading.left]:
            for place, logits in zip(unread, batch.read([readings[place] for place in unread]), strict=True):
                seen[place].append(logits)
        for text, reading, logits in zip(joining, readings, seen, strict=True):
            np.testing.assert_allclose(np.concatenate(logits), truth(text), atol=1e-4)
            batch.join(reading)
            running.append(list(text))
        if running:
            tokens = np.array([random.randrange(SIZE) for _ in running])
            for text, token, logits in zip(running, tokens, batch.step(tokens), strict=True):
                text.append(int(token))
                np.testing.assert_allclose(logits, truth(text)[-1], atol=1e-4)
        for share in leaving:
            if running:
                row = int(share * len(running))
                batch.leave(row)
                running[row] = running[-1]
                running.pop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_the_same_alone_and_among_64(models, kind):
    """To the letter: other prompts, lengths, temperatures and ends beside it have no say in it."""
    generator, _ = models[kind]
    random = np.random.default_rng(1)
    streams = []
    for number in range(64):
        prompt = random.integers(1, SIZE, size=random.integers(1, 2 * CHUNK)).tolist()
        sampling = Sampling(
            max_tokens=int(random.integers(1, 120)),
            temperature=float(random.choice([0.0, 0.7, 1.0])),
            top_p=float(random.choice([0.8, 1.0])),
            top_k=int(random.choice([0, 5])),
            seed=number,
        )
        streams.append(generator.stream(prompt, sampling))
    batch = generator.batch()
    waiting = list(streams)
    while waiting or len(batch):
        for _ in range(3):  # some join while others are being written
            if waiting:
                batch.add(waiting.pop())
        batch.turn()
    for stream in streams:
        alone = "".join(piece.text for piece in generator.generate(stream.prompt, stream.sampling))
        assert stream.take().text == alone
