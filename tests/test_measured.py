"""Measured data: taken by shape, never changed, from arrays and from text tables alike."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import check_main, load_case
from npde_opt.cases.measured import by_experiment, by_time
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.nested import identify
from npde_opt.runs.monitor import Monitor

EVOLUTION = """
[grid]
shape = [16]
[evolution]
terms = [{ diffusion = "D" }]
scheme = "imex-euler"
times = { end = 1.0, steps = 10 }
[[unknown]]
name = "D"
kind = "scalar"
initial = 0.2
[[experiment]]
initial = { u = "1+x" }
[[observation]]
times = [0.2, 0.5, 1.0]
"""
STEADY = """
[grid]
shape = [16]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
[experiments]
boundary = [{ "x-" = 1.0 }, { "x-" = 2.0 }, { "x-" = 3.0 }]
[observations]
points = [[0.3], [0.6]]
sigma = 0.01
"""
DECAY = """
[grid]
shape = [32]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[evolution]
terms = [{ diffusion = "D" }]
times = { end = 3.0, steps = 60 }
[[unknown]]
name = "D"
kind = "scalar"
initial = 0.02
[[experiment]]
initial = { u = "sin(pi*x)" }
[[observation]]
points = [[0.5]]
sigma = 0.01
"""
HEADS = [(0.5, 0.781344), (1.0, 0.610498), (1.5, 0.477009), (2.0, 0.372708), (3.0, 0.227537)]


def prepared(folder, text):
    (folder / "case.toml").write_text(text)
    case = load_case(folder / "case.toml", MPI.COMM_SELF)
    return case, case.prepare(Ensemble.whole(MPI.COMM_SELF))


def test_by_experiment():
    values = np.arange(6.0)
    np.testing.assert_array_equal(by_experiment("d", values.reshape(3, 2), 3, 2, False), values.reshape(3, 2))
    np.testing.assert_array_equal(by_experiment("d", values.reshape(2, 3), 3, 2, True), values.reshape(2, 3).T)
    for shape, total, count in (((6,), 1, 6), ((6,), 6, 1), ((1, 6), 1, 6), ((6, 1), 1, 6)):
        assert by_experiment("d", values.reshape(shape), total, count, False).shape == (total, count)
    for shape in ((2, 3), (6,), (1, 6), (6, 1), (3, 2, 2)):
        with pytest.raises(InputError, match="3 experiments x 2 observations") as error:
            by_experiment("d", np.zeros(shape), 3, 2, False)
        assert ("transposed" in str(error.value)) == (shape == (2, 3))


def test_by_time():
    values = np.arange(24.0)
    for shape in ((24,), (2, 12)):
        np.testing.assert_array_equal(by_time("d", values.reshape(shape), 2, 12, (4, 3)), values)
    maps = values.reshape(2, 4, 3)
    np.testing.assert_array_equal(by_time("d", maps, 2, 12, (4, 3)), np.concatenate([m.ravel(order="F") for m in maps]))
    np.testing.assert_array_equal(by_time("d", maps[0], 1, 12, (4, 3)), maps[0].ravel(order="F"))
    for shape in ((12, 2), (2, 3, 4), (4, 6), (23,)):
        with pytest.raises(InputError, match="times x places") as error:
            by_time("d", np.zeros(shape), 2, 12, (4, 3))
        assert ("transposed" in str(error.value)) == (shape in ((12, 2), (2, 3, 4)))


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_is_not_added_to_measurements(seed, tmp_path):
    y = 1 + 0.1 * np.sin(np.arange(48.0))
    np.save(tmp_path / "y.npy", y)
    (tmp_path / "case.toml").write_text(EVOLUTION + "data = [{ file = 'y.npy' }]\n")
    case = load_case(tmp_path / "case.toml", MPI.COMM_SELF, seed=seed)
    data = case.prepare(Ensemble.whole(MPI.COMM_SELF))
    np.testing.assert_array_equal(data.observed[0], y)
    np.testing.assert_allclose(data.sigma[0], 0.01 * np.sqrt(np.mean(y**2)), rtol=1e-14)
    _, noisy = prepared(tmp_path, EVOLUTION + "data = [{ file = 'y.npy' }]\nadd_noise = true\n")
    drawn = np.random.default_rng([0, 2]).standard_normal(48)
    np.testing.assert_allclose(noisy.observed[0], y + data.sigma[0][0] * drawn, rtol=1e-14)
    assert "noise added" in noisy.origin


def test_noise_is_added_to_steady_measurements_on_request_only(tmp_path):
    y = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "y.npy", y)
    np.testing.assert_array_equal(prepared(tmp_path, STEADY + "data = { file = 'y.npy' }\n")[1].observed, y)
    _, noisy = prepared(tmp_path, STEADY + "data = { file = 'y.npy' }\nadd_noise = true\n")
    assert 0 < np.abs(noisy.observed - y).max() < 0.06


def test_transposed_data_are_refused(tmp_path):
    np.save(tmp_path / "y.npy", np.ones((2, 3)))
    with pytest.raises(InputError, match=r"observations.data: got an array of shape \(2, 3\); .*\(3, 2\).*transposed"):
        prepared(tmp_path, STEADY + "data = { file = 'y.npy' }\n")
    np.save(tmp_path / "p.npy", np.array([[0.3, 0.6]]))
    with pytest.raises(InputError, match=r"observations.points: got shape \(1, 2\).*transposed"):
        prepared(tmp_path, STEADY.replace("[[0.3], [0.6]]", "{ file = 'p.npy' }") + "data = { file = 'y.npy' }\n")
    np.save(tmp_path / "y.npy", np.ones((16, 3)))
    with pytest.raises(InputError, match=r"observation\[0\].data\[0\]: got an array of shape \(16, 3\).*transposed"):
        prepared(tmp_path, EVOLUTION + "data = [{ file = 'y.npy' }]\n")
    np.save(tmp_path / "y.npy", np.ones((3, 2)))
    np.save(tmp_path / "s.npy", np.ones((2, 3)))
    with pytest.raises(InputError, match=r"observations.sigma.*transposed"):
        prepared(tmp_path, STEADY.replace("sigma = 0.01", "sigma = { file = 's.npy' }") + "data = { file = 'y.npy' }\n")


def test_points_on_one_axis_may_be_a_list(tmp_path):
    np.save(tmp_path / "p.npy", np.array([0.3, 0.6]))
    np.save(tmp_path / "y.npy", np.ones((3, 2)))
    case, _ = prepared(tmp_path, STEADY.replace("[[0.3], [0.6]]", "{ file = 'p.npy' }") + "data = { file = 'y.npy' }\n")
    np.testing.assert_array_equal(case.places.points, [[0.3], [0.6]])


@pytest.mark.parametrize("text", [EVOLUTION + "data = [{ file = 'y.npy' }]\nsigma = 0.1\n",
                                  STEADY + "data = { file = 'y.npy' }\n"])
def test_a_run_without_any_datum_is_an_error(text, tmp_path):
    np.save(tmp_path / "y.npy", np.full((3, 16 if "evolution" in text else 2), np.nan))
    with pytest.raises(InputError, match="NaN only"):
        prepared(tmp_path, text)


def test_data_of_inactive_cells_alone_are_none(tmp_path):
    y = np.full((3, 16), np.nan)
    y[:, 8:] = 1.0
    np.save(tmp_path / "y.npy", y)
    case, _ = prepared(tmp_path, EVOLUTION.replace("shape = [16]", "shape = [16]\nactive = { expression = 'where(x<0.4, 1, 0)' }")
                       + "data = [{ file = 'y.npy' }]\nsigma = 0.1\n")
    with pytest.raises(InputError, match="at least one datum"):
        case.build(case.grid(MPI.COMM_SELF), Ensemble.whole(MPI.COMM_SELF))


def test_data_that_are_zero_have_no_relative_noise(tmp_path):
    np.save(tmp_path / "y.npy", np.zeros((3, 16)))
    with pytest.raises(InputError, match=r"observation\[0\].sigma: got none, and data that are 0"):
        prepared(tmp_path, EVOLUTION + "data = [{ file = 'y.npy' }]\n")


def test_codes_of_missing_values_in_arrays(tmp_path):
    y = np.ones((3, 2))
    y[1, 0] = -9999
    np.save(tmp_path / "y.npy", y)
    with pytest.raises(InputError, match=r"y.npy: got -9999 at \[1, 0\], 1 of 6 values; allowed: .*missing"):
        prepared(tmp_path, STEADY + "data = { file = 'y.npy' }\n")
    found = prepared(tmp_path, STEADY + "data = { file = 'y.npy', missing = -9999 }\n")[1].observed
    assert np.isnan(found[1, 0]) and np.isnan(found).sum() == 1
    assert prepared(tmp_path, STEADY + "data = { file = 'y.npy', missing = [] }\n")[1].observed[1, 0] == -9999


def test_as_many_files_as_experiments(tmp_path):
    np.save(tmp_path / "y.npy", np.ones((3, 16)))
    with pytest.raises(InputError, match="got 2 files; allowed: 1"):
        prepared(tmp_path, EVOLUTION + "data = [{ file = 'y.npy' }, { file = 'y.npy' }]\n")


@pytest.mark.parallel([1, 2, 3])
def test_every_rank_has_the_data_or_the_error(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    if comm.rank == 0:
        np.save(folder / "y.npy", np.arange(48.0).reshape(3, 16) + 1)
        np.save(folder / "k.npy", np.arange(16.0))
        np.save(folder / "t.npy", np.ones((16, 3)))
        for name in ("y", "t"):
            (folder / f"{name}.toml").write_text(EVOLUTION.replace('u = "1+x"', "u = { file = 'k.npy' }")
                                                 + f"data = [{{ file = '{name}.npy' }}]\nsigma = 0.1\n")
    comm.Barrier()
    ensemble = Ensemble.whole(comm)
    case = load_case(folder / "y.toml", comm)
    np.testing.assert_array_equal(case.prepare(ensemble).observed[0], np.arange(48.0) + 1)
    grid = case.grid(comm)
    np.testing.assert_array_equal(case.trials(grid, [0])[0].initial["u"], np.arange(16.0)[grid.local_slice])
    with pytest.raises(InputError, match="transposed"):
        load_case(folder / "t.toml", comm).prepare(ensemble)


def lines(form, head=""):
    return head + "".join(form.format(t, h) for t, h in HEADS)


TABLES = {
    "good": (lines("{:f},{:f}\n", "time,head\n"), 'column = "time"', 'column = "head"'),
    "decimal commas": (lines("{:f};{:f}\n").replace(".", ","), "column = 0", "column = 1"),
    "percent header": (lines("{:f} {:f}\n", "% time head\n"), 'column = "time"', 'column = "head"'),
    "units": (lines("{:f}\t{:f}\n", "time\thead\n[d]\t[m]\n"), 'column = "time"', 'column = "head"'),
    "code": (lines("{:f},{:f}\n", "time,head\n").replace("0.477009", "-9999"), 'column = "time"',
             'column = "head", missing = -9999')}


@pytest.mark.parametrize(("name", "what"), [*[("a.csv", what) for what in TABLES],
                                            *[(name, "good") for name in ("UPPER.CSV", "a.TSV", "a.txt", "a.Dat")]])
def test_tables_give_the_same_diffusivity(name, what, tmp_path):
    content, time, head = TABLES[what]
    (tmp_path / name).write_text(content)
    case, _ = prepared(tmp_path, DECAY + f"times = {{ file = '{name}', {time} }}\ndata = [{{ file = '{name}', {head} }}]\n")
    ensemble = Ensemble.whole(MPI.COMM_SELF)
    found = identify(case.grid(MPI.COMM_SELF), lambda g: case.build(g, ensemble), case.settings(), 1,
                     Monitor(MPI.COMM_SELF, None))
    D = found.objective.space
    assert float(D.unknown("D").value(D.values(found.result.m, "D"))[0]) == pytest.approx(0.04995, abs=2e-5)


def test_a_table_of_several_columns_needs_one_named(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(TABLES["good"][0])
    (tmp_path / "case.toml").write_text(DECAY + "times = { file = 'a.csv', column = 0 }\ndata = [{ file = 'a.csv' }]\n")
    assert check_main([str(tmp_path / "case.toml")]) == 2
    assert "column: got none; allowed: one of the columns of a.csv: time, head" in capsys.readouterr().out


def test_tables_of_steady_cases(tmp_path):
    (tmp_path / "a.csv").write_text("x;first;second;third;error\n0,3;1,5;2,5;3,5;0,1\n0,6;4,5;;6,5;0,2\n")
    text = STEADY.replace("[[0.3], [0.6]]", "{ file = 'a.csv', column = 'x' }") + \
        "data = { file = 'a.csv', column = ['first', 'second', 'third'] }\n"
    case, data = prepared(tmp_path, text)
    np.testing.assert_array_equal(case.places.points, [[0.3], [0.6]])
    np.testing.assert_array_equal(data.observed, [[1.5, 4.5], [2.5, np.nan], [3.5, 6.5]])
    with pytest.raises(InputError, match="2 rows and 2 columns; allowed: 2 rows, one an observation, and 3 columns"):
        prepared(tmp_path, text.replace("['first', 'second', 'third']", "['first', 'second']"))
    one = text.replace("['first', 'second', 'third']", "'first'").replace(
        'boundary = [{ "x-" = 1.0 }, { "x-" = 2.0 }, { "x-" = 3.0 }]', "source = 1.0").replace(
        "sigma = 0.01", "sigma = { file = 'a.csv', column = 'error' }")
    np.testing.assert_array_equal(prepared(tmp_path, one)[1].sigma, [[0.1, 0.2]])
    with pytest.raises(InputError, match="missing values in a.csv"):
        prepared(tmp_path, one.replace("column = 'x'", "column = 'second'"))
