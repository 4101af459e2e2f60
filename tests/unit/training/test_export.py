import logging
import os
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from lyrics_lm.errors import ModelError
from lyrics_lm.params import ModelParams
from lyrics_lm.records import StateSpec
from lyrics_lm.training.bigram import OPSET
from lyrics_lm.training.export import export
from lyrics_lm.training.model import build
from lyrics_lm.training.transformer import Transformer

VOCAB, CONTEXT = 13, 6
torch.set_num_threads(1)  # more gain nothing at these sizes, and the machine may be busy


class Gated(nn.Module):
    """A user's own: looks at its window alone, mixes recurrence, convolution and dropout."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 8)
        self.recurrence = nn.GRU(8, 8, batch_first=True)
        self.past = nn.Conv1d(8, 8, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, VOCAB)

    def forward(self, tokens):
        x, _ = self.recurrence(self.embedding(tokens))
        x = x + self.past(nn.functional.pad(x.transpose(1, 2), (2, 0))).transpose(1, 2)
        return self.head(self.drop(x))


class Counting(nn.Module):
    """A user's own with a state: how often each token was read."""

    state = (StateSpec("seen", (VOCAB,), "float32"),)

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(VOCAB, VOCAB)

    def forward(self, tokens):
        return self.head(nn.functional.one_hot(tokens, VOCAB).to(torch.float32).cumsum(dim=1))

    def step(self, tokens, lengths, seen):
        valid = torch.arange(tokens.shape[1]) < lengths[:, None]
        ones = nn.functional.one_hot(tokens, VOCAB) * valid[..., None].to(torch.float32)
        return self.head(seen[:, None] + ones.cumsum(dim=1)), seen + ones.sum(dim=1)


def transformer():
    model = Transformer(VOCAB, CONTEXT, 2, 16, 2, 11)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3)
    return model


MAKERS = {"transformer": transformer, "window": Gated, "counting": Counting}


@pytest.fixture(scope="module", params=MAKERS)
def exported(request, tmp_path_factory):
    """A model and its file."""
    torch.manual_seed(0)
    model, path = MAKERS[request.param](), tmp_path_factory.mktemp("graphs") / "model.onnx"
    export(model, CONTEXT, VOCAB, path)
    return model, path


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def texts(batch, time, seed=0):
    return torch.randint(VOCAB, (batch, time), generator=torch.Generator().manual_seed(seed))


def read(session, model, pieces):
    """Logits of a graph that is shown the pieces of a text one after the other."""
    if not hasattr(model, "state"):
        return [session.run(["logits"], {"tokens": piece.numpy()})[0] for piece in pieces]
    batch = len(pieces[0])
    state = {spec.name: np.zeros((batch, *spec.shape), spec.dtype) for spec in model.state}
    logits = []
    for piece in pieces:
        lengths = np.full(batch, piece.shape[1])
        out, *following = session.run(None, {"tokens": piece.numpy(), "lengths": lengths, **state})
        logits.append(out)
        state = dict(zip(state, following, strict=True))
    return logits


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 6), (5, 3), (7, 2), (16, 6)])
def test_the_graph_answers_as_the_model_does(exported, batch, time):
    """For batches and lengths that the exporter never saw."""
    model, path = exported
    (logits,) = read(session_of(path), model, [texts(batch, time)])
    with torch.inference_mode():
        np.testing.assert_allclose(logits, model(texts(batch, time)).numpy(), atol=1e-4)


@pytest.mark.parametrize("exported", ["transformer", "counting"], indirect=True)
@pytest.mark.parametrize("cuts", [[1] * 23, [9, 1, 13], [23]])
def test_a_graph_with_state_goes_on_where_it_stopped(exported, cuts):
    """A text in pieces, far longer than the window, gives what `forward` gives of the whole."""
    model, path = exported
    logits = read(session_of(path), model, texts(3, 23).split(cuts, dim=1))
    with torch.inference_mode():
        np.testing.assert_allclose(np.concatenate(logits, axis=1), model(texts(3, 23)).numpy(), atol=1e-4)


def test_names_and_opset_are_the_contracts(exported):
    """Inputs tokens, lengths, state; outputs logits, next state; nothing outside the standard operators."""
    model, path = exported
    session, graph = session_of(path), onnx.load(path)
    names = [spec.name for spec in getattr(model, "state", ())]
    assert [value.name for value in session.get_inputs()] == ["tokens", *(["lengths"] if names else []), *names]
    assert [value.name for value in session.get_outputs()] == ["logits", *(f"next_{name}" for name in names)]
    assert [(entry.domain, entry.version) for entry in graph.opset_import if entry.domain == ""] == [("", OPSET)]
    assert {node.domain for node in graph.graph.node} == {""}


def test_nothing_of_the_machine_is_in_the_file(exported):
    """No path of the repo, of the libraries, of the home or of the file itself, no stack trace, no class of ours."""
    _, path = exported
    data = path.read_bytes()
    places = {Path(__file__).parents[3], Path(torch.__file__).parents[1], Path.home(), Path.cwd(), path.parent}
    for place in places - {Path("/")}:
        assert os.fsencode(place) not in data
    for trace in (b".py", b"site-packages", b"lyrics_lm", b"stack_trace", torch.__version__.encode()):
        assert trace not in data
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("exported", ["transformer"], indirect=True)
def test_equal_models_are_equal_bytes(exported, tmp_path):
    """Wherever and whenever they are exported."""
    model, path = exported
    export(model, CONTEXT, VOCAB, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def own(folder, forward):
    """A class of the user's own, from a file, with that `forward`."""
    (folder / "models").mkdir()
    lines = ["import torch", "class Net(torch.nn.Module):", "    def __init__(self, vocab_size, context):"]
    lines += ["        super().__init__()", "        self.table = torch.nn.Embedding(vocab_size, vocab_size)"]
    lines += ["    def forward(self, tokens):", *(f"        {line}" for line in forward), ""]
    (folder / "models" / "x.py").write_text("\n".join(lines))
    return build(ModelParams(name="models/x.py:Net", context=CONTEXT), VOCAB, folder)


@pytest.mark.parametrize(
    "forward",
    [
        ["if tokens.sum() > 3:", "    return self.table(tokens)", "return 2 * self.table(tokens)"],
        ["return self.table(torch.from_numpy(tokens.numpy()))"],
    ],
)
def test_a_forward_that_is_no_graph_is_refused_in_one_line(tmp_path, capfd, forward):
    """With the line of the user's file and what a forward may do; the exporter's own chatter is kept off,
    and nothing else that is logged later."""
    model = own(tmp_path, forward)
    with pytest.raises(ModelError) as caught:
        export(model, CONTEXT, VOCAB, tmp_path / "model.onnx")
    message = str(caught.value)
    assert re.match(r"the model cannot be exported to ONNX: x\.py:7: \w+: .+; let its forward use tensor", message)
    assert "\n" not in message
    assert len(message) < 600
    assert not (tmp_path / "model.onnx").exists()
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").isEnabledFor(logging.WARNING)


def test_a_graph_that_holds_for_one_size_only_is_refused(tmp_path, capfd, caplog):
    """A forward that goes through Python lists is exported for the traced batch; that is found out and told."""
    model = own(tmp_path, ["return self.table(tokens) * len([one for one in tokens.tolist() if one])"])
    with pytest.raises(ModelError, match=r"the exported graph fails on tokens \(1, 1\): .*; let its fo") as caught:
        export(model, CONTEXT, VOCAB, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert all(record.levelno < logging.WARNING for record in caplog.records)  # nor the trace of its first attempt


class Fixed(Gated):
    """Right when it is exported; the graph holds on to what was then."""

    def forward(self, tokens):
        return super().forward(tokens) * (1.0 if torch.compiler.is_compiling() else 2.0)


def test_a_graph_that_answers_differently_is_refused(tmp_path):
    """Export runs both side by side before anything is registered."""
    with pytest.raises(ModelError, match=r"the exported graph differs from the model by [\d.e+-]+; "):
        export(Fixed(), CONTEXT, VOCAB, tmp_path / "model.onnx")
