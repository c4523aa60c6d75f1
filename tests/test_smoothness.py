"""Smoothness of a history: squared differences of its values over the true distances of their times, in units of the mean."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.cases import load_case
from npde_opt.cases.histories import places
from npde_opt.errors import InputError
from npde_opt.regularizers.small import SmallPrior

CASE = """
[grid]
shape = [8]
[evolution]
terms = [{ diffusion = "D" }]
known = { D = 0.01 }
times = { end = 8.0, steps = 8 }
[[unknown]]
name = "h"
kind = "history"
length = 4
transform = "identity"
initial = [1.0, 3.0, 4.0, 2.0]
truth = 1.0
smoothness = 2.5
[[experiment]]
sources = [{ shape = 1.0, history = "h", times = TIMES }]
[[observation]]
times = [8.0]
"""
comm = MPI.COMM_WORLD
INITIAL = np.array([1.0, 3.0, 4.0, 2.0])


def read(tmp_path, text):
    (tmp_path / "case.toml").write_text(text)
    return load_case(tmp_path / "case.toml", MPI.COMM_SELF)


def value_of(tmp_path, text):
    """The regularizer of h at the initial values."""
    case = read(tmp_path, text)
    space = case.space(case.grid(MPI.COMM_SELF))
    m = case.start(space)
    p = PETSc.Vec().createWithArray(space.values(m, "h").copy(), comm=MPI.COMM_SELF)
    return case.regularizers(space, m)["h"].value(p)


@pytest.mark.parametrize(
    ("times", "distances"),
    [
        ("[0.0, 1.0, 2.0, 4.0]", [0.75, 0.75, 1.5]),
        ("[0.0, 2.0, 4.0, 6.0]", [1.0, 1.0, 1.0]),
        (
            "[0.0, 1.0, 2.0, 4.0, 8.0], interpolation = 'steps'",
            [1.0 / (11 / 6), 1.5 / (11 / 6), 3.0 / (11 / 6)],
        ),
    ],
)
def test_differences_count_over_the_distance_of_their_times(tmp_path, times, distances):
    expected = 0.5 * 2.5 * np.sum(np.diff(INITIAL) ** 2 / distances)
    assert value_of(tmp_path, CASE.replace("TIMES", times)) == pytest.approx(expected, rel=1e-13)


def test_equally_spaced_values_count_as_without_times(tmp_path):
    case = read(tmp_path, CASE.replace("TIMES", str((np.arange(4) * 0.1).tolist())))
    assert places(case.table, "h", 4) is None


def test_a_history_with_times_of_other_distances_is_refused(tmp_path):
    two = CASE.replace("TIMES", "[0.0, 1.0, 2.0, 4.0]").replace(
        "[[observation]]",
        '[[experiment]]\nsources = [{ shape = 1.0, history = "h", times = TIMES }]\n[[observation]]',
    )
    moved = value_of(tmp_path, two.replace("TIMES", "[1.0, 2.0, 3.0, 5.0]"))
    assert moved == pytest.approx(0.5 * 2.5 * (4 / 0.75 + 1 / 0.75 + 4 / 1.5), rel=1e-13)
    with pytest.raises(
        InputError,
        match=r"unknown.h.smoothness: got times at other distances in experiment\[1\].sources\[0\]",
    ):
        value_of(tmp_path, two.replace("TIMES", "[0.0, 2.0, 3.0, 4.0]"))


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        (
            "scalar",
            "smoothness = 2.5",
            "unknown.h.smoothness: got 2.5; allowed: 0 with kind 'scalar'",
        ),
        (
            "field",
            "smoothness = 2.5",
            "unknown.h.smoothness: got 2.5; allowed: 0 with kind 'field'",
        ),
        ("field", "deviation = 2.5", "unknown.h.deviation: got 2.5; allowed: none with a field"),
    ],
)
def test_a_prior_that_nothing_would_look_at_is_refused(tmp_path, kind, key, message):
    text = (
        CASE.replace("TIMES", "[0.0]").replace('"history"', f'"{kind}"').replace("length = 4\n", "")
    )
    with pytest.raises(InputError, match=message):
        read(tmp_path, text.replace("[1.0, 3.0, 4.0, 2.0]", "1.0").replace("smoothness = 2.5", key))


@pytest.mark.parallel([1, 2, 3])
def test_derivatives_of_the_prior():
    """Value, gradient and Hessian belong together, around a reference whose values differ."""
    prior = SmallPrior(comm, 4, 0.7, INITIAL, 0.5, 2.5, [0.0, 1.0, 1.5, 4.0])
    own = (4 if comm.rank == 0 else 0, 4)
    p, d, g, h = (PETSc.Vec().createMPI(own, comm=comm) for _ in range(4))
    rng = np.random.default_rng(1)
    if comm.rank == 0:
        p.setArray(rng.standard_normal(4))
        d.setArray(rng.standard_normal(4))
    prior.gradient(p, g)
    prior.hessian(p, d, h)
    values = []
    for step in (-1.0, 0.0, 1.0):
        moved = p.copy()
        moved.axpy(step, d)
        values.append(prior.value(moved))
    assert (values[2] - values[0]) / 2 == pytest.approx(g.dot(d), rel=1e-12)
    assert values[2] - 2 * values[1] + values[0] == pytest.approx(d.dot(h), rel=1e-11)
    prior.hessian(p, p, g)
    assert g.dot(d) == pytest.approx(h.dot(p), rel=1e-12)
