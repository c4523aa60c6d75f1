"""Numbers of a case before and after its data; quantities of interest, and what is wrong with
them."""

import csv
import io

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.optimizers import Settings, minimize
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.runs.next_places import check, chosen
from npde_opt.runs.numbers import Numbers
from npde_opt.runs.profiles import profiles
from npde_opt.runs.quantities import Told

CASE = """
[grid]
shape = [8, 8]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { reaction = "k" }, { source = 1.0 }]
known = { c = 3.0 }
derived = { twice = "2*k" }
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[unknown]]
name = "k"
kind = "scalar"
initial = 1.0
truth = 1.5
deviation = 0.4
[[experiment]]
[[experiment]]
boundary = { "x+" = 1.0 }
[[observation]]
random = 20
[[regularization]]
kind = "bilaplacian"
correlation_length = 0.4
variance = 0.2
"""
QUANTITIES = """
[posterior]
pairs = 4
[[posterior.quantities]]
name = "seen"
experiment = 1
observation = { points = [[0.4, 0.6]], quantity = "u**2" }
[[posterior.quantities]]
name = "cells"
of = "D"
observation = { points = [[0.4, 0.6], [0.7, 0.1]] }
[[posterior.quantities]]
name = "share"
text = "seen / (twice + c)"
"""


def opened(tmp_path, text, comm):
    """(case, its grid, J, m)."""
    path = tmp_path / "case.toml"
    path.write_text(text)
    case = load_case(path, comm)
    grid, ensemble = case.grid(comm), Ensemble.whole(comm)
    case.prepare(ensemble)
    return case, grid, *case.build(grid, ensemble)


def told(tmp_path, text=CASE + QUANTITIES, comm=MPI.COMM_WORLD):
    case, grid, J, m = opened(tmp_path, text, comm)
    laplace = Laplace(J.linearize(m), PosteriorSettings(cut=1e-6, rtol=1e-4))
    return laplace, Told(laplace, Numbers(case, case.on(grid)), 4)


PROFILE = """
[posterior.profile]
numbers = ["seen"]
"""


def test_quantities_of_states_have_profiles(tmp_path):
    small = CASE.replace("[8, 8]", "[3, 3]") + QUANTITIES + PROFILE
    case, grid, J, m = opened(tmp_path, small, MPI.COMM_WORLD)
    m = minimize(J, m, Settings("newton", gradient_rtol=1e-8)).m
    laplace = Laplace(J.linearize(m), PosteriorSettings(cut=1e-6, rtol=1e-4))
    numbers = Numbers(case, case.on(grid))
    found = profiles(case, laplace, numbers)
    (p,) = found.found.values()
    assert found.metrics()["seen"]["profile_interval"] == [p.low.c, p.high.c]
    straight = (p.c - p.answer) / p.deviation
    inside = np.abs(p.r) < 1
    np.testing.assert_allclose(p.r[inside], straight[inside], atol=0.15)
    assert (np.diff(p.r) > 0).all() and p.low.known and p.high.known
    numbers.destroy()


@pytest.mark.parallel([1, 2])
def test_numbers_have_intervals_before_and_after_the_data(tmp_path):
    laplace, found = told(tmp_path)
    table = found.metrics()["numbers"]
    assert list(table) == ["k", "seen", "cells_1", "cells_2", "twice", "share"]
    k, twice, share = (table[name] for name in ("k", "twice", "share"))
    # Of a logarithm with this deviation, to the error of quantiles of draws.
    ends = np.exp(np.array([-1.96, 1.96]) * 0.4)
    np.testing.assert_allclose(k["prior_interval"], ends, rtol=0.03)
    (unit,) = (v for label, v, _ in laplace.space.units(laplace.at.m) if label == "k")
    deviation = laplace.deviation(unit)
    np.testing.assert_allclose(k["deviation"], deviation, rtol=1e-6)
    after = np.exp(np.array([-1.96, 1.96]) * deviation)
    np.testing.assert_allclose(k["interval"], after, rtol=0.03)
    np.testing.assert_allclose(twice["interval"], 2 * after, rtol=0.03)
    assert share["value"] == pytest.approx(table["seen"]["value"] / 5.0)
    seen = table["seen"]
    assert seen["sensitivity_error"] < 1e-5
    assert seen["deviation"] < np.ptp(seen["prior_interval"]) / 4
    assert seen["mean"] == pytest.approx(seen["value"], abs=3 * seen["deviation"])
    fields = found.fields()
    assert sorted(fields) == sorted(
        f"D_sensitivity_of_{name}" for name in ("seen", "cells_1", "cells_2", "share")
    )
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [row["name"] for row in rows] == list(table)
    np.testing.assert_allclose(float(rows[4]["d/d k"]), 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "seen"', 'name = "k"', r"quantities\[0\].name: got 'k'"),
        ('of = "D"', 'of = "E"', r"quantities\[1\].of: got 'E'; allowed: .*D"),
        ("experiment = 1", "experiment = 2", r"experiment: got 2; .* from 0 to 1"),
        ("twice + c", "twice + d", r"quantities\[2\].text.*'d'"),
        ("twice + c", "cells + c", r"quantities\[2\].text.*'cells'|'cells'"),
        ('"u**2" }', '"u**2", sigma = 1.0 }', r"sigma: got given; allowed: none"),
        ('"u**2" }', '"u**2", times = [1.0] }', r"times: got given; allowed: none"),
        ("points = [[0.4, 0.6]], ", "", r"observation: got no place"),
        ("text =", "observation = { points = [[0.1, 0.1]] }\ntext =", r"got both"),
        ('"u**2"', '"v**2"', r"'v'"),
    ],
)
def test_wrong_quantities_are_told(tmp_path, old, new, said):
    text = CASE + QUANTITIES
    assert old in text
    with pytest.raises(InputError, match=said):
        path = tmp_path / "case.toml"
        path.write_text(text.replace(old, new, 1))
        case = load_case(path, MPI.COMM_SELF)
        Numbers(case, case.on(case.grid(MPI.COMM_SELF)))


DESIGN = """
[posterior.design]
candidates = { points = [[0.4, 0.6], [0.7, 0.1], [0.2, 0.2]] }
experiment = 1
sigma = 0.01
count = 2
"""


@pytest.mark.parallel([1, 2])
def test_the_best_next_places(tmp_path):
    text = CASE.replace("known = { c = 3.0 }\n", "") + DESIGN
    laplace, _ = told(tmp_path, text)
    case = load_case(tmp_path / "case.toml", MPI.COMM_WORLD)
    on = case.on(laplace.space.grid)
    found = chosen(case, on, laplace, case.table.posterior.design)
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    first = int(rows[0]["candidate"])
    # The first one is where the prediction is least certain.
    assert first == np.argmax(found.deviations) and len(rows) == 2
    nats = 0.5 * np.log1p((found.deviations[first] / 0.01) ** 2)
    assert float(rows[0]["nats"]) == pytest.approx(nats, rel=1e-3)
    assert float(rows[0]["x"]) == found.at[first, 0]
    many = (tmp_path / "many.toml").resolve()
    many.write_text(text.replace("count = 2", "count = 4"))
    with pytest.raises(InputError, match=r"design.count: got 4; allowed: 1 to 3"):
        check(load_case(many, MPI.COMM_WORLD), on_of(many))


def on_of(path):
    case = load_case(path, MPI.COMM_WORLD)
    return case.on(case.grid(MPI.COMM_WORLD))
