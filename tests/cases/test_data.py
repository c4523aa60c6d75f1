"""A case's data: measured values are never changed, and come from arrays and text tables alike."""

import numpy as np
import pytest
from fits import every
from mpi4py import MPI

from npde_opt.cases import check_main, load_case
from npde_opt.cases.weighing import floor
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.nested import identify
from npde_opt.observations.shares import Share
from npde_opt.runs.monitor import Monitor

SNAPSHOTS = """
[grid]
shape = [16]
[time]
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
"""Every cell at three times."""
STEADY = """
[grid]
shape = [16]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[[unknown]]
name = "D"
initial = 1.0
[[experiment]]
boundary = { "x-" = 1.0 }
[[experiment]]
boundary = { "x-" = 2.0 }
[[experiment]]
boundary = { "x-" = 3.0 }
[[observation]]
points = [[0.3], [0.6]]
sigma = 0.01
"""
"""Two points in three experiments."""
DECAY = """
[grid]
shape = [32]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[time]
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
HEADS = [
    (0.5, 0.781344),
    (1.0, 0.610498),
    (1.5, 0.477009),
    (2.0, 0.372708),
    (3.0, 0.227537),
]
ONE_FILE = "data = { file = 'y.npy' }\n"


def prepared(folder, text, seed=0):
    (folder / "case.toml").write_text(text)
    case = load_case(folder / "case.toml", MPI.COMM_SELF, seed=seed)
    return case, case.prepare(Ensemble.whole(MPI.COMM_SELF))


# ---- noise and deviations ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("data", [ONE_FILE, "data = [{ file = 'y.npy' }]\n"])
def test_noise_is_not_added_to_measurements(seed, data, tmp_path):
    y = 1 + 0.1 * np.sin(np.arange(48.0))
    np.save(tmp_path / "y.npy", y)
    text = SNAPSHOTS + data + "noise = 0.01\n"
    found = prepared(tmp_path, text, seed)[1]
    np.testing.assert_array_equal(found.observed[0], y)
    np.testing.assert_allclose(
        found.sigma[0], 0.01 * np.sqrt(np.mean(y**2)), rtol=1e-14
    )
    noisy = prepared(tmp_path, text + "add_noise = true\n")[1]
    drawn = np.random.default_rng([0, 2]).standard_normal(48)
    np.testing.assert_allclose(
        noisy.observed[0], y + found.sigma[0][0] * drawn, rtol=1e-14
    )
    assert "noise added" in noisy.origin


def test_noise_is_added_to_steady_measurements_on_request_only(tmp_path):
    y = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "y.npy", y)
    np.testing.assert_array_equal(prepared(tmp_path, STEADY + ONE_FILE)[1].observed, y)
    noisy = prepared(tmp_path, STEADY + ONE_FILE + "add_noise = true\n")[1]
    assert 0 < np.abs(np.array(noisy.observed) - y).max() < 0.06


def test_noise_of_proportional_errors_has_their_spread(tmp_path):
    np.save(tmp_path / "y.npy", np.ones((3, 2)))
    text = STEADY + ONE_FILE + "[misfit]\nkind = 'proportional'\npower = 1.0\n"
    case, _ = prepared(tmp_path, text)
    share = Share(MPI.COMM_SELF, ((1, 2),))
    reader = case.measurements(share)
    for unit in (1.0, 1e12):
        values = unit * np.array([1e-9, 0.5, 2.0])
        assert floor(case.table.misfit, [values], share) == pytest.approx(2e-3 * unit)
        found = reader.spread(np.full(3, 0.1), values)
        np.testing.assert_allclose(found, 0.1 * unit * np.array([2e-3, 0.5, 2.0]))


def test_data_that_are_zero_have_no_relative_noise(tmp_path):
    np.save(tmp_path / "y.npy", np.zeros((3, 16)))
    with pytest.raises(
        InputError, match=r"observation\[0\].sigma: got none, and data that are 0"
    ):
        prepared(tmp_path, SNAPSHOTS + ONE_FILE + "noise = 0.01\n")


# ---- shapes --------------------------------------------------------------------------------------


def test_transposed_data_are_refused(tmp_path):
    np.save(tmp_path / "y.npy", np.ones((2, 3)))
    message = (
        r"observation\[0\].data: got an array of shape \(2, 3\); .*\(3, 2\).*transposed"
    )
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, STEADY + ONE_FILE)
    np.save(tmp_path / "p.npy", np.array([[0.3, 0.6]]))
    text = STEADY.replace("[[0.3], [0.6]]", "{ file = 'p.npy' }") + ONE_FILE
    message = r"observation\[0\].points: got shape \(1, 2\).*transposed"
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, text)
    np.save(tmp_path / "y.npy", np.ones((16, 3)))
    message = r"observation\[0\].data\[0\]: got an array of shape \(16, 3\).*transposed"
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, SNAPSHOTS + "data = [{ file = 'y.npy' }]\nsigma = 0.1\n")
    np.save(tmp_path / "y.npy", np.ones((3, 2)))
    np.save(tmp_path / "s.npy", np.ones((2, 3)))
    text = STEADY.replace("sigma = 0.01", "sigma = { file = 's.npy' }") + ONE_FILE
    with pytest.raises(InputError, match=r"observation\[0\].sigma.*transposed"):
        prepared(tmp_path, text)


def test_points_on_one_axis_may_be_a_list(tmp_path):
    np.save(tmp_path / "p.npy", np.array([0.3, 0.6]))
    np.save(tmp_path / "y.npy", np.ones((3, 2)))
    text = STEADY.replace("[[0.3], [0.6]]", "{ file = 'p.npy' }") + ONE_FILE
    case, _ = prepared(tmp_path, text)
    np.testing.assert_array_equal(case.observations[0].points, [[0.3], [0.6]])


def test_as_many_files_as_experiments(tmp_path):
    np.save(tmp_path / "y.npy", np.ones((3, 16)))
    two = "data = [{ file = 'y.npy' }, { file = 'y.npy' }]\nsigma = 0.1\n"
    with pytest.raises(InputError, match="got 2 files; allowed: 1"):
        prepared(tmp_path, SNAPSHOTS + two)


# ---- missing values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape"), [(SNAPSHOTS + "sigma = 0.1\n", (3, 16)), (STEADY, (3, 2))]
)
def test_a_run_without_any_datum_is_an_error(text, shape, tmp_path):
    np.save(tmp_path / "y.npy", np.full(shape, np.nan))
    with pytest.raises(InputError, match="NaN only"):
        prepared(tmp_path, text + ONE_FILE)


def test_data_of_inactive_cells_alone_are_none(tmp_path):
    y = np.full((3, 16), np.nan)
    y[:, 8:] = 1.0
    np.save(tmp_path / "y.npy", y)
    left = "shape = [16]\nactive = { expression = 'where(x<0.4, 1, 0)' }"
    text = SNAPSHOTS.replace("shape = [16]", left) + ONE_FILE + "sigma = 0.1\n"
    case, _ = prepared(tmp_path, text)
    with pytest.raises(InputError, match="at least one datum"):
        case.build(case.grid(MPI.COMM_SELF), Ensemble.whole(MPI.COMM_SELF))


def test_codes_of_missing_values_in_arrays(tmp_path):
    y = np.ones((3, 2))
    y[1, 0] = -9999
    np.save(tmp_path / "y.npy", y)
    message = r"y.npy: got -9999 at \[1, 0\], 1 of 6 values; allowed: .*missing"
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, STEADY + ONE_FILE)
    declared = STEADY + "data = { file = 'y.npy', missing = CODES }\n"
    found = np.array(prepared(tmp_path, declared.replace("CODES", "-9999"))[1].observed)
    assert np.isnan(found[1, 0]) and np.isnan(found).sum() == 1
    _, none = prepared(tmp_path, declared.replace("CODES", "[]"))
    assert none.observed[1][0] == -9999


# ---- ranks ---------------------------------------------------------------------------------------


@pytest.mark.parallel([1, 2, 3])
def test_every_rank_has_the_data_or_the_error(tmp_path):
    comm = MPI.COMM_WORLD
    folder = comm.bcast(tmp_path, root=0)
    if comm.rank == 0:
        np.save(folder / "y.npy", np.arange(48.0).reshape(3, 16) + 1)
        np.save(folder / "k.npy", np.arange(16.0))
        np.save(folder / "t.npy", np.ones((16, 3)))
        text = SNAPSHOTS.replace('u = "1+x"', "u = { file = 'k.npy' }")
        for name in ("y", "t"):
            data = f"data = [{{ file = '{name}.npy' }}]\nsigma = 0.1\n"
            (folder / f"{name}.toml").write_text(text + data)
    comm.Barrier()
    ensemble = Ensemble.whole(comm)
    case = load_case(folder / "y.toml", comm)
    np.testing.assert_array_equal(
        every(case.prepare(ensemble)).observed[0], np.arange(48.0) + 1
    )
    grid = case.grid(comm)
    (experiment,) = case.on(grid).experiments([0])
    np.testing.assert_array_equal(
        experiment.initial["u"], np.arange(16.0)[grid.local_slice]
    )
    with pytest.raises(InputError, match="transposed"):
        load_case(folder / "t.toml", comm).prepare(ensemble)


# ---- text tables ---------------------------------------------------------------------------------


def lines(form, head=""):
    return head + "".join(form.format(t, h) for t, h in HEADS)


COMMA = lines("{:f},{:f}\n", "time,head\n")
NAMED = ('column = "time"', 'column = "head"')
TABLES = {
    "good": (COMMA, *NAMED),
    "decimal commas": (
        lines("{:f};{:f}\n").replace(".", ","),
        "column = 0",
        "column = 1",
    ),
    "percent header": (lines("{:f} {:f}\n", "% time head\n"), *NAMED),
    "units": (lines("{:f}\t{:f}\n", "time\thead\n[d]\t[m]\n"), *NAMED),
    "code": (
        COMMA.replace("0.477009", "-9999"),
        NAMED[0],
        f"{NAMED[1]}, missing = -9999",
    ),
}
FILES = [
    *[("a.csv", what) for what in TABLES],
    *[(name, "good") for name in ("UPPER.CSV", "a.TSV", "a.txt", "a.Dat")],
]
FITTED = [("a.csv", "good"), ("a.csv", "code")]


@pytest.mark.parametrize(("name", "what"), FILES)
def test_tables_give_the_same_data_and_the_diffusivity(name, what, tmp_path):
    content, time, head = TABLES[what]
    (tmp_path / name).write_text(content)
    times = f"times = {{ file = '{name}', {time} }}\n"
    text = DECAY + times + f"data = {{ file = '{name}', {head} }}\n"
    case, data = prepared(tmp_path, text)
    at, values = np.transpose(HEADS)
    if what == "code":
        values[2] = np.nan
    np.testing.assert_allclose(data.observed[0], values, rtol=1e-12)
    np.testing.assert_allclose(case.observations[0].times, at, rtol=1e-12)
    if (name, what) not in FITTED:
        return
    ensemble, monitor = Ensemble.whole(MPI.COMM_SELF), Monitor(MPI.COMM_SELF, None)
    grid, settings = case.grid(MPI.COMM_SELF), case.settings()
    found = identify(grid, lambda g: case.build(g, ensemble), settings, 1, monitor)
    space = found.objective.space
    (D,) = space.unknown("D").value(space.values(found.result.m, "D"))
    assert pytest.approx(0.04995, abs=2e-5) == D


def test_a_table_of_several_columns_needs_one_named(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(COMMA)
    text = DECAY + "times = { file = 'a.csv', column = 0 }\ndata = { file = 'a.csv' }\n"
    (tmp_path / "case.toml").write_text(text)
    assert check_main([str(tmp_path / "case.toml")]) == 2
    said = "column: got none; allowed: one of the columns of a.csv: time, head"
    assert said in capsys.readouterr().out


def test_tables_of_steady_cases(tmp_path):
    table = "x;first;second;third;error\n0,3;1,5;2,5;3,5;0,1\n0,6;4,5;;6,5;0,2\n"
    (tmp_path / "a.csv").write_text(table)
    points = STEADY.replace("[[0.3], [0.6]]", "{ file = 'a.csv', column = 'x' }")
    three = "['first', 'second', 'third']"
    text = points + f"data = {{ file = 'a.csv', column = {three} }}\n"
    case, data = prepared(tmp_path, text)
    np.testing.assert_array_equal(case.observations[0].points, [[0.3], [0.6]])
    np.testing.assert_array_equal(
        data.observed, [[1.5, 4.5], [2.5, np.nan], [3.5, 6.5]]
    )
    message = "2 rows and 2 columns; allowed: 2 rows, one an observation, and 3 columns"
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, text.replace(three, "['first', 'second']"))
    first = text[: text.index("[[experiment]]")] + text[text.index("[[observation]]") :]
    one = first.replace(three, "'first'").replace(
        "sigma = 0.01", "sigma = { file = 'a.csv', column = 'error' }"
    )
    np.testing.assert_array_equal(prepared(tmp_path, one)[1].sigma, [[0.1, 0.2]])
    with pytest.raises(
        InputError, match=r"missing values? in a.csv, the first at \[\d"
    ):
        prepared(tmp_path, one.replace("column = 'x'", "column = 'second'"))
