"""A trained network gives the same outputs in PyTorch and in ONNX, where they are installed; names
and numbers are recorded otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from npde_opt.__main__ import main
from npde_opt.errors import InputError
from npde_opt.networks.model import Model
from npde_opt.networks.normalisation import Normalisation
from npde_opt.training.export import WRITERS, Graph, export, state_dict
from npde_opt.training.predict import Predictor

RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((4, 2, 1, 7, 6))
CONVOLUTION = {
    "kind": "convolution",
    "channels": 3,
    "kernel": [3, 5],
    "stride": [2, 1],
    "dilation": [1, 2],
    "padding": [1, 4],
    "activation": "tanh",
}
MIXING = {"kind": "convolution", "channels": 4, "kernel": 1, "activation": "softplus"}
DENSE = {"kind": "dense", "channels": 5, "activation": "relu"}
LAST = {"kind": "dense", "channels": 3}


def model(*layers, inputs=None, outputs=None):
    """With drawn weights, of two channels on 7 x 6 cells; numbers, no classes."""
    none = Normalisation.none
    inputs = inputs or Normalisation(np.array([0.5, -1.0]), np.array([2.0, 0.5]))
    outputs = outputs or Normalisation(
        np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])
    )
    made = Model({"layer": list(layers)}, {}, 2, (1, 7, 6), inputs or none(2), outputs)
    shapes = {
        "W1": (3, 2, 5, 3),
        "b1": (3,),
        "W2": (4, 3),
        "b2": (4,),
        "W3": (5, 4 * 7 * 3),
        "b3": (5,),
        "W4": (3, 5),
        "b4": (3,),
    }
    weights = {name: 0.5 * RNG.standard_normal(shape) for name, shape in shapes.items()}
    return replace(made, weights=weights)


WHOLE = model(CONVOLUTION, MIXING, DENSE, LAST)


def test_names_and_shapes_are_those_of_sequential():
    found = {name: values.shape for name, values in state_dict(WHOLE).items()}
    assert found == {
        "0.weight": (3, 2, 5, 3),
        "0.bias": (3,),
        "2.weight": (4, 3, 1, 1),
        "2.bias": (4,),
        "5.weight": (5, 84),
        "5.bias": (5,),
        "7.weight": (3, 5),
        "7.bias": (3,),
    }
    np.testing.assert_array_equal(state_dict(WHOLE)["5.weight"], WHOLE.weights["W3"])


def test_pytorch_gives_the_same_outputs(tmp_path):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    other = nn.Sequential(
        nn.Conv2d(2, 3, (5, 3), (1, 2), (4, 1), (2, 1)),
        nn.Tanh(),
        nn.Conv2d(3, 4, 1),
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(84, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    ).double()
    export(WHOLE, tmp_path / "m.pt")
    other.load_state_dict(torch.load(tmp_path / "m.pt"))
    given = WHOLE.inputs.apply(INPUTS)[:, :, 0]
    outputs = other(torch.tensor(given)).detach().numpy()
    found = WHOLE.outputs.undo(outputs[:, :, None, None, None])
    np.testing.assert_allclose(Predictor(WHOLE)(INPUTS), found, rtol=1e-12)


def test_pytorch_reads_a_recurrent_network(tmp_path):
    layers = {"kind": "recurrent", "channels": 4, "activation": "tanh"}, LAST
    weights = {
        "W1": RNG.standard_normal((4, 4)),
        "U1": RNG.standard_normal((4, 2)),
        "b1": RNG.standard_normal(4),
        "W2": RNG.standard_normal((3, 4)),
        "b2": RNG.standard_normal(3),
    }
    none = Normalisation.none
    made = Model({"layer": list(layers)}, weights, 2, (1, 1, 6), none(2), none(3))
    found = state_dict(made)
    assert list(found)[0] == "rnn.weight_ih_l0" and found["0.weight"].shape == (3, 4)
    torch = pytest.importorskip("torch")
    rnn = torch.nn.RNN(2, 4, batch_first=True).double()
    rnn.load_state_dict(
        {
            n.removeprefix("rnn."): torch.tensor(v)
            for n, v in found.items()
            if "rnn" in n
        }
    )
    x = RNG.standard_normal((5, 2, 1, 1, 6))
    last = (
        rnn(torch.tensor(x[:, :, 0, 0].transpose(0, 2, 1)))[0][:, -1].detach().numpy()
    )
    expected = last @ weights["W2"].T + weights["b2"]
    np.testing.assert_allclose(Predictor(made)(x)[:, :, 0, 0, 0], expected, rtol=1e-12)


def test_the_nodes_of_a_graph():
    found = Graph(WHOLE)
    assert [node[0] for node in found.nodes] == [
        *("Sub", "Div", "Conv", "Tanh", "Conv", "Softplus", "Flatten"),
        *("Gemm", "Relu", "Gemm", "Mul", "Add", "Identity"),
    ]
    assert found.nodes[2][3] == {
        "strides": [1, 2],
        "dilations": [2, 1],
        "pads": [4, 1, 4, 1],
    }


def test_onnx_gives_the_same_outputs(tmp_path):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    export(WHOLE, tmp_path / "m.onnx")
    given = INPUTS[:, :, 0].astype(np.float32)
    (found,) = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"inputs": given})
    expected = Predictor(WHOLE)(INPUTS)[:, :, 0, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_roots_and_outputs_of_several_cells_are_in_the_graph(tmp_path):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    inputs = Normalisation(np.array([0.5, 1.0]), np.array([2.0, 0.5]), roots=True)
    # Two channels of targets on cells, of which a dense layer gives eight numbers.
    outputs = Normalisation(np.array([1.0, 2.0]), np.array([2.0, 3.0]), roots=True)
    made = model({"kind": "dense", "channels": 8}, inputs=inputs, outputs=outputs)
    weights = {"W1": RNG.standard_normal((8, 84)), "b1": RNG.standard_normal(8)}
    made = replace(made, weights=weights)
    given = np.abs(INPUTS)
    expected = Predictor(made)(given).reshape(4, 8)
    plain = (np.sqrt(given) - [[[[[0.5]]], [[[1.0]]]]]) / [[[[[2.0]]], [[[0.5]]]]]
    plain = plain.reshape(4, 84) @ weights["W1"].T + weights["b1"]
    plain = plain * np.repeat([2.0, 3.0], 4) + np.repeat([1.0, 2.0], 4)
    np.testing.assert_allclose(expected, np.maximum(plain, 0) ** 2, rtol=1e-12)
    export(made, tmp_path / "m.onnx")
    (found,) = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(
        None, {"inputs": given[:, :, 0].astype(np.float32)}
    )
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_what_a_state_dict_has_not_is_told(tmp_path, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "model.npz"
    path.write_bytes(WHOLE.content())
    assert main(["export", str(path), str(tmp_path / "m.pt")]) == 0
    said = capsys.readouterr().out
    assert "give it (x - [0.5, -1.0]) / [2.0, 0.5] by channel" in said
    assert "take [2.0, 3.0, 4.0] y + [1.0, 2.0, 3.0] by channel" in said


@pytest.mark.parametrize(
    "layer, said",
    [
        ({"kind": "residual"}, r"layer\[0\]: got residual"),
        (
            CONVOLUTION | {"activation": "radial-basis"},
            r"layer\[0\]: got convolution with radial",
        ),
        (CONVOLUTION | {"outside": "replicate"}, r"layer\[0\].outside: got replicate"),
        (
            {"kind": "diffractive", "channels": 3},
            r"layer\[0\]: got diffractive with identity",
        ),
        (DENSE, r"layer\[1\]: got a convolution behind a dense layer"),
        (
            {"kind": "recurrent", "channels": 3, "linear": True, "activation": "tanh"},
            r"layer\[0\].linear: got true",
        ),
    ],
)
def test_layers_that_others_do_not_have_are_told(tmp_path, capsys, layer, said):
    with pytest.raises(InputError, match=said):
        state_dict(model(layer, MIXING, DENSE, LAST))
    path = tmp_path / "model.npz"
    path.write_bytes(model(layer, MIXING, DENSE, LAST).content())
    assert main(["export", str(path), str(tmp_path / "m.txt")]) == 2
    assert "ends in .pt or .onnx" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(WRITERS, ".pt", lambda model: b"")
    with pytest.raises(InputError, match="FILE: got .*none.*No such file"):
        export(WHOLE, tmp_path / "none" / "m.pt")


def test_even_kernels_need_a_padding():
    even = {"kind": "convolution", "channels": 3, "kernel": 2}
    made = replace(
        model(even), weights={"W1": np.ones((3, 2, 2, 2)), "b1": np.zeros(3)}
    )
    with pytest.raises(
        InputError, match=r"kernel: got \[2, 2\]; allowed: odd numbers, or a pad"
    ):
        state_dict(made)
    assert Graph(made).nodes[2][3]["pads"] == [0, 0, 1, 1]
