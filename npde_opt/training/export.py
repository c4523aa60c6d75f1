"""A trained network for others, as far as they have its layers: convolutions, dense layers and, for
PyTorch, a recurrent one.

    PyTorch   a state_dict, as torch.nn.Sequential(Conv2d(...), ReLU(), ..., Flatten(), Linear(...))
              takes it by load_state_dict: names like '0.weight', '0.bias'
    ONNX      a graph from samples [sample, channel, ...] as they come to outputs, classes as
              logarithms of probabilities up to a constant

Stencils are correlations in all three, and dense layers read channel after channel, x fastest: the
weights are the same numbers.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from npde_opt.aliases import Plain, Record
from npde_opt.errors import InputError, NpdeError
from npde_opt.io.files import disk, whole_file
from npde_opt.networks.model import Model
from npde_opt.training.given import cells_along
from npde_opt.training.predict import layers_of
from npde_opt.training.sections import LayerSection

OPERATORS = {"relu": "Relu", "tanh": "Tanh", "softplus": "Softplus"}
"""Of ONNX, by activation."""
OPSET = 17


@dataclass(frozen=True)
class Exported:
    """A layer that others have.

    Attributes:
        kind: convolution, dense or recurrent.
        weight: [channel, channel before, tz, ty, tx] with as many axes of taps as cells have, or
            [channel, number].
        driving: of inputs, of recurrent layers.
        pads: cells before and after along the axes (z, y, x).
    """

    kind: str
    section: LayerSection
    weight: np.ndarray
    bias: np.ndarray
    driving: np.ndarray | None
    strides: list[int]
    dilations: list[int]
    pads: tuple[list[int], list[int]]


def layers(model: Model) -> list[Exported]:
    """Raises InputError for layers that others do not have."""
    dim = len(cells_along(model.shape))
    sections = layers_of(model).layer
    for number, (one, after) in enumerate(pairwise(sections)):
        if (one.kind, after.kind) == ("dense", "convolution"):
            said = "a convolution behind a dense layer"
            raise InputError(f"layer[{number + 1}]", said, "convolutions before those")
    return [_layer(n, s, model, dim) for n, s in enumerate(sections)]


def _layer(number: int, section: LayerSection, model: Model, dim: int) -> Exported:
    where = f"layer[{number}]"
    known = section.kind in ("convolution", "dense", "recurrent")
    if not known or section.activation not in ("identity", *OPERATORS):
        said = f"{section.kind} with {section.activation}"
        raise InputError(
            where, said, "convolution, dense or recurrent, and no learnt activation"
        )
    if section.linear:
        raise InputError(f"{where}.linear", "true", "false: others have no such part")
    if section.outside != "zero":
        raise InputError(f"{where}.outside", section.outside, "zero")
    weight = model.weights[f"W{number + 1}"]
    if section.kind == "convolution" and weight.ndim == 2:
        weight = weight.reshape(*weight.shape, *(1,) * dim)
    bias = model.weights.get(f"b{number + 1}", np.zeros(len(weight)))
    taps = weight.shape[2:]
    strides, dilations = (
        _by_axis(given, dim) for given in (section.stride, section.dilation)
    )
    reach = [d * (t - 1) for t, d in zip(taps, dilations, strict=False)]
    before = [r // 2 for r in reach]
    after = [r - b for r, b in zip(reach, before, strict=True)]
    if section.padding is not None and taps:
        before = after = _by_axis(section.padding, dim)
    driving = model.weights.get(f"U{number + 1}")
    pads = (before, after)
    return Exported(
        section.kind, section, weight, bias, driving, strides, dilations, pads
    )


def _by_axis(given: int | Sequence[int], dim: int) -> list[int]:
    """Along (z, y, x), of a case's numbers along x, y, z."""
    return [given] * dim if isinstance(given, int) else list(given)[::-1]


# ---- PyTorch ------------------------------------------------------------------------------------


def state_dict(model: Model) -> dict[str, np.ndarray]:
    """Weights by the names that torch.nn.Sequential gives them: each layer is followed by its
    activation, the first dense one after stencils has a Flatten before.

    Raises:
        InputError: for layers that PyTorch does not have.
    """
    found: dict[str, np.ndarray] = {}
    place, flat = 0, False
    for layer in layers(model):
        if layer.kind == "dense" and not flat:
            place, flat = place + 1, True
        if layer.kind == "recurrent":
            found |= _recurrent(layer)
            # Only its last state goes on, which Sequential cannot choose.
            place, flat = 0, True
            continue
        if layer.pads[0] != layer.pads[1]:
            raise InputError(
                "kernel", list(layer.weight.shape[2:]), "odd numbers, or a padding"
            )
        found[f"{place}.weight"], found[f"{place}.bias"] = layer.weight, layer.bias
        place += 2 if layer.section.activation in OPERATORS else 1
    return found


def _recurrent(layer: Exported) -> dict[str, np.ndarray]:
    """Of a torch.nn.RNN named rnn."""
    if layer.section.activation not in ("tanh", "relu"):
        raise InputError(
            "activation", layer.section.activation, "tanh or relu, as torch.nn.RNN"
        )
    assert layer.driving is not None
    return {
        "rnn.weight_ih_l0": layer.driving,
        "rnn.weight_hh_l0": layer.weight,
        "rnn.bias_ih_l0": layer.bias,
        "rnn.bias_hh_l0": np.zeros_like(layer.bias),
    }


def _torch(model: Model) -> bytes:
    _needed("torch", "pip install 'npde_opt[torch]'")
    import torch

    out = io.BytesIO()
    tensors = {name: torch.tensor(values) for name, values in state_dict(model).items()}
    torch.save(tensors, out)
    return out.getvalue()


# ---- ONNX ---------------------------------------------------------------------------------------


def _onnx(model: Model) -> bytes:
    _needed("onnx", "pip install 'npde_opt[onnx]'")
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = Graph(model)
    cells = list(cells_along(model.shape)[::-1])
    given = helper.make_tensor_value_info(
        "inputs", TensorProto.FLOAT, ["samples", model.channels, *cells]
    )
    outputs = helper.make_tensor_value_info("outputs", TensorProto.FLOAT, graph.target)
    nodes = [helper.make_node(kind, i, o, **keys) for kind, i, o, keys in graph.nodes]
    arrays = [
        numpy_helper.from_array(_stored(values), name)
        for name, values in graph.arrays.items()
    ]
    made = helper.make_graph(nodes, "npde_opt", [given], [outputs], arrays)
    whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)])
    whole.ir_version = 8
    checker.check_model(whole)
    content: bytes = whole.SerializeToString()
    return content


def _stored(values: np.ndarray) -> np.ndarray:
    """Single precision, of shapes the integers that ONNX wants."""
    return (
        values if values.dtype.kind == "i" else np.ascontiguousarray(values, np.float32)
    )


class Graph:
    """The nodes of a model: kind, names of inputs and outputs, attributes.

    Raises:
        InputError: for layers that are not written.
    """

    def __init__(self, model: Model):
        self.arrays: dict[str, np.ndarray] = {}
        self.nodes: list[tuple[str, list[str], list[str], Record]] = []
        self._dim = len(cells_along(model.shape))
        at = "inputs"
        if model.inputs.roots:
            at = self._node("Sqrt", [at])
        at = self._normalised(at, model.inputs.shift, model.inputs.scale)
        flat, last = False, 0
        for number, layer in enumerate(layers(model)):
            if layer.kind == "recurrent":
                raise InputError(
                    f"layer[{number}]", "recurrent", "convolution or dense, in ONNX"
                )
            if layer.kind == "dense" and not flat:
                at, flat = self._node("Flatten", [at], axis=1), True
            at = self._layer(number, layer, at)
            last = len(layer.weight)
        self.target: list[str | int] = ["samples", last]
        if not flat:
            self.target += [f"cells {axis}" for axis in "zyx"[3 - self._dim :]]
        if not model.outputs.trivial:
            each = model.outputs.over(last)
            at = self._scaled(at, each.scale, each.shift, flat)
        if model.outputs.roots:
            # Squares, of what is not below 0.
            at = self._node("Relu", [at])
            at = self._node("Mul", [at, at])
        self.nodes.append(("Identity", [at], ["outputs"], {}))

    def _node(self, kind: str, given: list[str], **keys: Plain) -> str:
        """Adds one; the name of what it gives."""
        name = f"value{len(self.nodes)}"
        self.nodes.append((kind, given, [name], keys))
        return name

    def _array(self, name: str, values: np.ndarray) -> str:
        self.arrays[name] = values
        return name

    def _by_channel(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, *(1,) * self._dim)

    def _normalised(self, at: str, shift: np.ndarray, scale: np.ndarray) -> str:
        if not shift.any() and (scale == 1).all():
            return at
        at = self._node(
            "Sub", [at, self._array("input shift", self._by_channel(shift))]
        )
        return self._node(
            "Div", [at, self._array("input scale", self._by_channel(scale))]
        )

    def _scaled(self, at: str, scale: np.ndarray, shift: np.ndarray, flat: bool) -> str:
        both = [v if flat else self._by_channel(v) for v in (scale, shift)]
        at = self._node("Mul", [at, self._array("output scale", both[0])])
        return self._node("Add", [at, self._array("output shift", both[1])])

    def _layer(self, number: int, layer: Exported, at: str) -> str:
        weight = self._array(f"W{number + 1}", layer.weight)
        bias = self._array(f"b{number + 1}", layer.bias)
        if layer.kind == "dense":
            at = self._node("Gemm", [at, weight, bias], transB=1)
        else:
            before, after = layer.pads
            keys = {"strides": layer.strides, "dilations": layer.dilations}
            at = self._node("Conv", [at, weight, bias], pads=[*before, *after], **keys)
        kind = OPERATORS.get(layer.section.activation)
        return at if kind is None else self._node(kind, [at])


# ---- files --------------------------------------------------------------------------------------

WRITERS = {".pt": _torch, ".onnx": _onnx}


def export(model: Model, path: Path) -> None:
    """Writes a model as the ending of `path` says.

    Raises:
        InputError: for another ending, layers that others do not have, and packages that are
            missing.
    """
    if path.suffix not in WRITERS:
        raise InputError(
            "FILE", str(path), f"a name that ends in {' or '.join(WRITERS)}"
        )
    content = WRITERS[path.suffix](model)
    told = disk("FILE", path, "a file in a folder that can be written")
    with told, whole_file(path) as file:
        file.write(content)


def _told(model: Model) -> list[str]:
    """What a state_dict leaves to who uses it."""
    found, x, y = list[str](), model.inputs, model.outputs
    if not x.trivial:
        given = "sqrt(x)" if x.roots else "x"
        text = f"({given} - {x.shift.tolist()}) / {x.scale.tolist()}"
        found.append(f"  give it {text} by channel: normalisation is not in it")
    if not y.trivial:
        square = ", squared" if y.roots else ""
        text = f"{y.scale.tolist()} y + {y.shift.tolist()}{square}"
        found.append(f"  take {text} by channel of what it gives")
    return found


def _needed(package: str, remedy: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError("FILE", f"no {package} package", remedy)


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    p = argparse.ArgumentParser(
        prog="python -m npde_opt export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", metavar="MODEL", help="model.npz of a training")
    p.add_argument(
        "file", metavar="FILE", help="to write: NAME.pt (PyTorch) or NAME.onnx"
    )
    options = p.parse_args(list(argv))
    try:
        model = Model.load(options.model)
        export(model, Path(options.file))
    except NpdeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(options.file)
    if Path(options.file).suffix == ".pt":
        for line in _told(model):
            print(line)
    return 0
