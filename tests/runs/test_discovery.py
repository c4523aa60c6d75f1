"""The run that finds equations: files, what is told of them, and cases that start from them."""

import json
from argparse import Namespace

import numpy as np
import pytest
from mpi4py import MPI
from scipy.io import savemat

from npde_opt.cases import load_case
from npde_opt.errors import InputError
from npde_opt.pseudoinverse.equation_error import Observed
from npde_opt.runs import discovery

WORLD = MPI.COMM_WORLD


def run(data, out, *files, **others):
    given = {
        "noise": 0.0,
        "seed": 0,
        "form": "weak",
        "windows": [20, 20],
        "plot": False,
        "terms": None,
        "vary": [],
        "pieces": None,
    }
    options = Namespace(data=str(data), out=str(out), overwrite=True, file=list(files))
    vars(options).update(given | others)
    with discovery.Discovery(options, WORLD, 0.0) as found:
        found.find()
        found.report()
    return json.loads((out / "summary.json").read_text())["metrics"]["equations"]


@pytest.mark.parallel([1, 2])
def test_the_case_of_an_equation_starts_from_it(tmp_path):
    pytest.importorskip("matplotlib")
    folder = WORLD.bcast(tmp_path)
    t, x = np.linspace(0, 1, 81), np.linspace(-np.pi, np.pi, 96, endpoint=False)
    if WORLD.rank == 0:
        # u_t = 0.1 u_xx - 0.5 u, and i u_t = -0.5 u_xx of two waves each.
        modes = [(1, 1.0), (2, 0.7), (3, -0.4)]
        real = sum(
            a * np.exp(-(0.1 * k**2 + 0.5) * t[:, None]) * np.sin(k * x)
            for k, a in modes
        )
        turned = sum(
            a * np.exp(1j * (k * x - 0.5 * k**2 * t[:, None])) for k, a in modes
        )
        savemat(folder / "heat.mat", {"t": t, "x": x, "u": real.T})
        savemat(folder / "wave.mat", {"tt": t, "x": x, "usol": turned})
    WORLD.Barrier()
    told = run(folder, folder / "out", "heat.mat", "wave.mat", plot=True)
    assert told["heat"]["terms"] == ["u", "u_xx"]
    np.testing.assert_allclose(told["heat"]["coefficients"], [-0.5, 0.1], rtol=1e-4)
    assert told["wave"]["terms"] == ["i u_xx"]
    np.testing.assert_allclose(told["wave"]["coefficients"], [0.5], rtol=1e-4)
    assert {p.name for p in (folder / "out").glob("*.png")} == {
        "heat_terms.png",
        "wave_terms.png",
    }
    for name, unknowns in (("heat", {"c1": -0.5, "D": 0.1}), ("wave", {"D": 0.5})):
        case = load_case(folder / "out" / f"{name}.toml", WORLD)
        starts = {u.name: float(u.initial) for u in case.table.unknown}
        assert starts == pytest.approx(unknowns, rel=1e-4)


def test_the_case_of_noisy_states_seeks_the_first_one_too(tmp_path):
    t, x = np.linspace(0, 1, 81), np.linspace(-np.pi, np.pi, 96, endpoint=False)
    real = np.exp(-0.6 * t[:, None]) * np.sin(x) + 0.5
    turned = np.exp(1j * (x - 0.5 * t[:, None])) + np.exp(2j * (x - t[:, None]))
    savemat(tmp_path / "heat.mat", {"t": t, "x": x, "u": real})
    savemat(tmp_path / "wave.mat", {"t": t, "x": x, "u": turned})
    given = {"noise": 0.02, "terms": ["u", "u_xx"]}
    run(tmp_path, tmp_path / "heat", "heat.mat", **given)
    run(tmp_path, tmp_path / "wave", "wave.mat", noise=0.02, terms=["i u_xx"])
    for name, state, firsts in (("heat", real, "u"), ("wave", turned, "re im")):
        case = load_case(tmp_path / name / f"{name}.toml", WORLD)
        names = {u.name for u in case.table.unknown}
        assert {f"{one}0" for one in firsts.split()} < names
        size = 0.02 * np.sqrt((abs(state) ** 2).mean() / len(firsts.split()))
        for one in case.table.observation:
            assert one.times.count == 81
            assert one.sigma == pytest.approx(size, rel=0.1)


@pytest.mark.parametrize("pieces", [None, 3])
def test_the_case_of_a_field_starts_from_it(tmp_path, pieces):
    t, x = np.linspace(0, 1, 81), np.linspace(-np.pi, np.pi, 96, endpoint=False)
    # u_t = r(x) u: every place on its own.
    rate = 1 + (np.arange(96) >= 64) if pieces else 1 + 0.5 * np.cos(x)
    u = (2 + np.sin(5 * x)) * np.exp(rate * t[:, None])
    savemat(tmp_path / "grown.mat", {"t": t, "x": x, "u": u})
    given = {"terms": ["u"], "vary": ["u"], "pieces": pieces}
    told = run(tmp_path, tmp_path / "out", "grown.mat", **given)["grown"]
    found = np.array(told["fields"]["u"]["values"])
    inner = np.s_[10:-10]
    assert abs(found / rate - 1)[inner].mean() < 0.01
    case = load_case(tmp_path / "out" / "grown.toml", WORLD)
    (unknown,) = case.table.unknown
    assert unknown.name == "c1"
    assert (unknown.regions is not None) == (pieces is not None)
    assert len(case.table.regularization) == (0 if pieces else 1)
    kept = np.load(tmp_path / "out" / "grown.npz")
    np.testing.assert_array_equal(kept["c1"], found)


def plane_states(noise=0.0):
    """u_t = c(x, y) u on a plane: every cell on its own."""
    t, x, y = np.linspace(0, 1, 41), (np.arange(12) + 0.5) / 6, (np.arange(9) + 0.5) / 9
    c = 1 + 0.5 * np.cos(2 * x[:, None]) * np.cos(3 * y)
    u = (2 + x[:, None] * y) * np.exp(c * t[:, None, None])
    return {"t": t, "x": x, "y": y, "u": u}, c


@pytest.mark.parallel([1, 2])
def test_the_case_of_a_field_on_a_plane_starts_from_it(tmp_path):
    pytest.importorskip("matplotlib")
    folder = WORLD.bcast(tmp_path)
    arrays, c = plane_states()
    if WORLD.rank == 0:
        np.savez(folder / "plane.npz", **arrays)
    WORLD.Barrier()
    given = {"terms": ["u"], "vary": ["u"], "windows": [10, 2]}
    given["plot"] = WORLD.size == 1
    told = run(folder, folder / "out", "plane.npz", **given)["plane"]
    found = np.array(told["fields"]["u"]["values"])
    assert abs(found / c - 1)[2:-2, 2:-2].max() < 0.07
    assert told["errors"] is None
    assert (folder / "out" / "plane_fields.png").exists() == given["plot"]
    case = load_case(folder / "out" / "plane.toml", WORLD)
    (unknown,) = case.table.unknown
    assert unknown.name == "c1"
    assert case.table.grid.shape == [12, 9]
    kept = np.load(folder / "out" / "plane.npz")
    np.testing.assert_allclose(kept["c1"], found, rtol=1e-12)
    np.testing.assert_array_equal(kept["u"][3], arrays["u"][3].ravel(order="F"))
    np.testing.assert_array_equal(kept["first"], arrays["u"][0])


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("change", "others", "told"),
    [
        ({}, {"terms": None, "vary": []}, "--terms, --vary: got nothing, nothing"),
        ({}, {"pieces": 3}, "--pieces: got 3"),
        ({}, {"vary": ["u_xx"]}, "--vary: got 'u_xx'"),
        ({"u": np.ones((41, 12))}, {}, "plane.npz: u: got shape"),
        ({"y": np.arange(9.0) ** 2}, {}, "plane.npz: y.*equal steps"),
        ({"t": np.arange(41.0) ** 2}, {}, "equation: t.*equal steps"),
        ({}, {"windows": [10, 9]}, "half window in space"),
    ],
)
def test_planes_that_cannot_be_are_told_on_all_ranks(tmp_path, change, others, told):
    folder = WORLD.bcast(tmp_path)
    if WORLD.rank == 0:
        np.savez(folder / "plane.npz", **plane_states()[0] | change)
    WORLD.Barrier()
    given = {"terms": ["u"], "vary": ["u"], "windows": [10, 2]} | others
    with pytest.raises(InputError, match=told):
        run(folder, folder / "out", "plane.npz", **given)


def test_names_of_no_terms_are_told(tmp_path):
    t, x = np.linspace(0, 1, 81), np.linspace(-np.pi, np.pi, 96, endpoint=False)
    savemat(tmp_path / "a.mat", {"t": t, "x": x, "u": np.exp(-t[:, None]) * np.sin(x)})
    with pytest.raises(InputError, match=r"--terms: got 'v'.*'u_xx'"):
        run(tmp_path, tmp_path / "out", "a.mat", terms=["v"])
    with pytest.raises(InputError, match="--vary: got 'u_x'"):
        run(tmp_path, tmp_path / "out", "a.mat", terms=["u"], vary=["u_x"])


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({"noise": -1.0}, "--noise"),
        ({"pieces": 3}, "--pieces: got 3"),
        ({"form": "differences", "vary": ["u"]}, "--vary with --form"),
        ({"file": ["none.mat"]}, "--file: got none.mat"),
        ({"file": ["other.mat"]}, "arrays t or tt"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, others, told):
    savemat(tmp_path / "other.mat", {"v": np.ones(3)})
    with pytest.raises(InputError, match=told):
        run(tmp_path, tmp_path / "out", *others.pop("file", ["other.mat"]), **others)


@pytest.mark.parametrize("form", ["weak", "differences"])
def test_windows_that_nobody_gives_suit_a_small_grid(tmp_path, form):
    t, x = np.linspace(0, 1, 101), np.linspace(0, 2 * np.pi, 64, endpoint=False)
    u = np.exp(-0.4 * t[:, None]) * np.sin(x)
    u += 0.3 * np.exp(-1.6 * t[:, None]) * np.cos(2 * x)
    np.savez(tmp_path / "heat.npz", t=t, x=x, u=u)
    told = run(tmp_path, tmp_path / "out", "heat.npz", windows=None, form=form)
    assert told["heat"]["terms"] == ["u_xx"]
    np.testing.assert_allclose(told["heat"]["coefficients"], [0.4], rtol=1e-3)


@pytest.mark.parametrize("steps", [(9, 9), (9, 40), (200, 11)])
@pytest.mark.parametrize("number", [float, complex])
def test_windows_of_few_steps_hold_some(steps, number):
    t, x = (np.linspace(0, 1, n + 1) for n in steps)
    seen = Observed(t, x, np.zeros((len(t), len(x)), number))
    halves = discovery._windows(seen, 12, "weak")
    assert all(1 <= half <= n // 2 for half, n in zip(halves, steps, strict=True))
