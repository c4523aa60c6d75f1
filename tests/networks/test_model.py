"""A model comes back from its file as it was; what is no such file is told."""

import io
import json

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.networks.model import HEADER, Model
from npde_opt.networks.normalisation import Normalisation

RNG = np.random.default_rng(0)
MODEL = Model(
    {"layer": [{"kind": "dense", "channels": 2}]},
    {"W1": RNG.standard_normal((2, 6)), "b1": RNG.standard_normal(2)},
    1,
    (1, 2, 3),
    Normalisation(np.array([0.5]), np.array([2.0])),
    Normalisation.none(1),
    ["no", "yes"],
    {"error_test": 0.1},
)


def test_a_model_comes_back(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(MODEL.content())
    found = Model.load(path)
    for name, values in MODEL.weights.items():
        np.testing.assert_array_equal(found.weights[name], values)
    assert found.architecture == MODEL.architecture and found.shape == (1, 2, 3)
    assert found.classes == ["no", "yes"] and found.trained == {"error_test": 0.1}
    np.testing.assert_array_equal(found.inputs.scale, [2.0])
    assert found.outputs.trivial and not found.inputs.trivial


def changed(path, **header):
    """A file of which the header says something else."""
    with np.load(io.BytesIO(MODEL.content())) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    told = json.loads(str(arrays.pop(HEADER))) | header
    told = {key: value for key, value in told.items() if value is not None}
    np.savez(path, **{HEADER: np.array(json.dumps(told))}, **arrays)
    return path


@pytest.mark.parametrize(
    "header, said",
    [
        ({"version": 2}, "of version 2, by npde_opt .*allowed: version 1 at most"),
        ({"format": "other"}, "another kind of file"),
        ({"checksum": "0"}, "damaged: checksum"),
        ({"architecture": None}, "damaged: architecture"),
    ],
)
def test_another_header_is_told(tmp_path, header, said):
    with pytest.raises(InputError, match=f"MODEL: got .*{said}"):
        Model.load(changed(tmp_path / "m.npz", **header))


def test_weights_that_were_changed_are_told(tmp_path):
    with np.load(io.BytesIO(MODEL.content())) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    arrays["weight W1"][0, 0] += 1e-9
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(InputError, match="damaged: checksum"):
        Model.load(tmp_path / "m.npz")


@pytest.mark.parametrize("content", [b"", b"none", MODEL.content()[:-300]])
def test_what_is_no_model_is_told(tmp_path, content):
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(
        InputError, match="MODEL: got .*m.npz, which is no model or damaged"
    ):
        Model.load(tmp_path / "m.npz")
    np.savez(tmp_path / "o.npz", a=1)
    with pytest.raises(InputError, match="no model"):
        Model.load(tmp_path / "o.npz")
    with pytest.raises(InputError, match="No such file"):
        Model.load(tmp_path / "none.npz")


def test_normalisation_is_undone():
    values = 5 + 3 * RNG.standard_normal((7, 2, 1, 3, 2))
    values[:, 1] = 4.0
    from mpi4py import MPI

    found = Normalisation.standard(MPI.COMM_SELF, values)
    seen = found.apply(values)
    np.testing.assert_allclose(seen[:, 0].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(seen[:, 0].std(), 1)
    assert not seen[:, 1].any() and found.scale[1] == 1
    np.testing.assert_allclose(found.undo(seen), values)
