import re
from importlib import resources

import pytest
import torch

from lyrics_lm.errors import ModelError
from lyrics_lm.params import ModelParams
from lyrics_lm.training.model import build, state_of
from lyrics_lm.training.transformer import Transformer

VOCAB = 9
NET = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, vocab_size, context, width=4):
        super().__init__()
        self.sizes = vocab_size, context, width
        self.embedding = torch.nn.Embedding(vocab_size, width)
        self.head = torch.nn.Linear(width, vocab_size)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))
"""


def own(folder, code=NET, name="Net", **params):
    """The class `name` of a file that holds `code`, built as training builds it."""
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "x.py").write_text(code)
    return build(ModelParams(name=f"models/x.py:{name}", **params), VOCAB, folder)


def refused(folder, *args, **params):
    """What is said when it cannot be built: one line."""
    with pytest.raises(ModelError) as caught:
        own(folder, *args, **params)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_class_gets_the_sizes_and_its_own_arguments(tmp_path):
    """`vocab_size` and `context` from the project, the rest from `model.args`; torch runs it as it is."""
    assert own(tmp_path, context=5).sizes == (VOCAB, 5, 4)
    model = own(tmp_path, context=5, args={"width": 6})
    assert model.sizes == (VOCAB, 5, 6)
    assert model(torch.zeros(2, 7, dtype=torch.int64)).shape == (2, 7, VOCAB)
    assert state_of(model) == ()


def test_an_edited_file_is_read_anew(tmp_path):
    """Two builds in one process may see two versions of a file."""
    own(tmp_path)
    assert own(tmp_path, NET.replace("width=4", "width=5")).sizes[2] == 5


def test_a_window_of_one_token_is_enough(tmp_path):
    """A class is tried on no more tokens than its context."""
    picky = NET.replace("return", "assert tokens.shape[1] <= self.sizes[1]\n        return")
    assert own(tmp_path, picky, context=1).sizes == (VOCAB, 1, 4)


def test_the_built_in_network_is_named_transformer(tmp_path):
    """Of the sizes asked for; unlike a plain class it has a state."""
    model = build(ModelParams(context=4, layers=3, width=8, heads=2), VOCAB, tmp_path)
    assert isinstance(model, Transformer)
    assert (model.context, len(model.blocks), model.embedding.weight.shape) == (4, 3, (VOCAB, 8))
    assert state_of(model) == model.state != ()


def test_the_example_of_a_workspace_can_be_built(tmp_path):
    """The class that `init` shows, as it stands there."""
    code = (resources.files("lyrics_lm.workspace") / "template" / "models" / "conv.py").read_text()
    assert len(own(tmp_path, code, "Conv", args={"layers": 2}).convs) == 2


def test_sizes_that_do_not_fit_name_the_settings(tmp_path):
    """Which are in params.yaml."""
    with pytest.raises(ModelError, match=r"width 30 .* 4 heads; change model\.width or model\.heads in params\.yaml"):
        build(ModelParams(width=30, heads=4), VOCAB, tmp_path)


def test_a_missing_file(tmp_path):
    """Its whole path, and the setting that asks for it."""
    with pytest.raises(ModelError) as caught:
        build(ModelParams(name="models/gone.py:Net"), VOCAB, tmp_path)
    path = tmp_path / "models" / "gone.py"
    assert str(caught.value) == f"{path} does not exist; model.name in params.yaml names it"


@pytest.mark.parametrize(
    ("code", "name", "there"),
    [
        (NET, "Nets", "Net"),
        (NET + "class Deep(Net): pass\n", "Nets", "Net, Deep"),
        ("width = 4\n", "Net", "none"),
        ("class Net:\n    def __init__(self, **sizes): pass\n", "Net", "none"),  # a class, but not torch's
        (NET + "def net(vocab_size, context): return Net(vocab_size, context)\n", "net", "Net"),
    ],
)
def test_a_missing_class_or_one_that_is_no_torch_module(tmp_path, code, name, there):
    """The file, and the modules that it does have."""
    message = refused(tmp_path, code, name)
    assert message == f"{tmp_path / 'models' / 'x.py'} has no torch module {name}; it has: {there}"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import torch\n\nclass Net(torch.nn.Module)\n    pass\n", r"SyntaxError: expected ':' \(x\.py, line 3\)"),
        ("\x00", "SyntaxError: .*null bytes"),
        ("import torch\nimport no_such_library\n", r"x\.py:2: ModuleNotFoundError: .*'no_such_library'"),
        ("import torch\n\n\nWIDTH = int('wide')\n", r"x\.py:4: ValueError: invalid literal .*'wide'"),
        ("def f():\n    raise OSError('a\\nb\\n\\nc')\nf()\n", r"x\.py:2: OSError: a b"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path, code, reason):
    """The file, the innermost of its lines, and what Python says of it."""
    path = re.escape(str(tmp_path / "models" / "x.py"))
    assert re.fullmatch(f"{path} cannot be imported: {reason}; mend it", refused(tmp_path, code))


@pytest.mark.parametrize(
    ("change", "params", "call", "reason"),
    [
        (("context, ", ""), {}, "vocab_size, context", "TypeError: .*unexpected keyword argument 'context'"),
        ((), {"args": {"depth": 2}}, "vocab_size, context, depth", "TypeError: .*unexpected keyword argument 'depth'"),
        ((), {"args": {"width": -1}}, "vocab_size, context, width", r"x\.py:7: RuntimeError: .*negative dimension.*"),
        (("super().__init__()", "pass"), {}, "vocab_size, context", r"x\.py:7: AttributeError: .*__init__\(\) call"),
    ],
)
def test_a_constructor_that_fails(tmp_path, change, params, call, reason):
    """What was called, with which arguments, the line that failed and the two places to mend it."""
    message = refused(tmp_path, NET.replace(*change) if change else NET, **params)
    wanted = rf"models/x\.py:Net\({call}\) failed: {reason}; mend it, or model\.args in params\.yaml"
    assert re.fullmatch(wanted, message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return self.head(tokens)", r"models/x.py:Net failed on tokens \(2, 3\): x\.py:11: RuntimeError: .*; mend it"),
        ("return self.embedding(tokens)", r".* gives \(2, 3, 4\) for tokens \(2, 3\); return .* shape \(2, 3, 9\)"),
        ("return self.head(self.embedding(tokens))[:, -1]", r"models/x.py:Net gives \(2, 9\) for .*"),
        ("return (self.head(self.embedding(tokens)), None)", r"models/x.py:Net gives tuple for .*"),
        ("pass", r"models/x.py:Net gives NoneType for tokens \(2, 3\); return logits of shape \(2, 3, 9\)"),
    ],
)
def test_a_forward_that_fails_or_gives_another_shape(tmp_path, body, message):
    """Met before training begins: the class, what it gave and what it should give."""
    code = NET.replace("return self.head(self.embedding(tokens))", body)
    assert re.fullmatch(message, refused(tmp_path, code))


STATE = """
    state = (StateSpec("last", (4,), "float32"),)

    def step(self, tokens, lengths, last):
        x = self.embedding(tokens)
        return self.head(x), x[:, -1]
"""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("", ""), ""),
        (("self.head(x), ", "self.head(x[:, -1]), "), r" gives float32 \(2, 9\), float32 \(2, 4\) for "),
        ((", x[:, -1]", ""), " gives no tuple of tensors but Tensor for "),
        ((", x[:, -1]", ", x[:, -1].double()"), r" gives float32 \(2, 3, 9\), float64 \(2, 4\) for "),
        (("(4,)", "(5,)"), r" gives float32 \(2, 3, 9\), float32 \(2, 4\) for .* float32 \(2, 5\)"),
        (("lengths, last", "lengths"), " failed on .*: TypeError: .* takes 3 positional arguments but 4 were given; "),
        (("x[:, -1]", "last + tokens"), r" failed on .*: x\.py:18: RuntimeError: .*; mend it"),
        (("float32", "float33"), " failed on .*: AttributeError: .*'float33'; mend it"),
    ],
)
def test_a_step_is_tried_too(tmp_path, change, reason):
    """What it returns must be logits and the next state, of the shapes and types that `state` tells."""
    code = "from lyrics_lm.records import StateSpec\n" + NET + STATE.replace(*change)
    if not reason:
        assert [spec.name for spec in state_of(own(tmp_path, code))] == ["last"]
        return
    message = refused(tmp_path, code)
    assert re.match(rf"models/x\.py:Net\.step{reason}", message)
    assert "mend it" in message or "; return logits and next state, float32 (2, 3, 9), float32 (2, " in message
