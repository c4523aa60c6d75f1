"""Histories of sources: what they are outside their times, as the page of the format and `check`
say, and the smoothness of an unknown one over the true distances of its times."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.cases import check_main, load_case
from npde_opt.cases.document import document
from npde_opt.cases.histories import places
from npde_opt.cases.weighing import regularizers
from npde_opt.errors import InputError


def read(tmp_path, text):
    (tmp_path / "case.toml").write_text(text)
    return load_case(tmp_path / "case.toml", MPI.COMM_SELF)


# ---- outside their times -------------------------------------------------------------------------


SOURCE = """
[grid]
shape = [4]
[equation]
terms = [{ reaction = "none" }]
known = { none = 0.0 }
[time]
times = { end = 8.0, steps = 8 }
scheme = "heun"
[[unknown]]
name = "q"
kind = "scalar"
transform = "identity"
initial = 1.0
truth = 1.0
[[experiment]]
sources = [{ shape = "q", SOURCE }]
[[observation]]
times = [1.0, 4.0, 8.0]
points = [[0.5]]
"""
OUTSIDE = {
    "linear": (
        "history = [2.0, 4.0], times = [2.0, 4.0]",
        "linear between 2 times 2 ... 4, 2 before and 4 after",
        [2, 10, 26],
    ),
    "steps": (
        'history = [2.0, 4.0], times = [2.0, 4.0], interpolation = "steps"',
        "steps between 2 times 2 ... 4, 2 before and 4 after",
        [2, 8, 24],
    ),
    "intervals": (
        'history = [2.0, 4.0], times = [2.0, 3.0, 4.0], interpolation = "steps"',
        "steps between 3 times 2 ... 4, 0 before and 0 after",
        [0, 6, 6],
    ),
    "to the end": (
        "history = [2.0, 4.0], times = [0.0, 8.0]",
        "linear between 2 times 0 ... 8\n",
        [2.125, 10, 24],
    ),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_outside_its_times_a_history_is_what_is_said(tmp_path, capsys, kind):
    source, said, integrals = OUTSIDE[kind]
    case = read(tmp_path, SOURCE.replace("SOURCE", source))
    on = case.on(case.grid(MPI.COMM_SELF))
    forward = on.forward([0], case.times())
    found = forward.linearize(on.start()).data[0].gather()[:, 0]
    np.testing.assert_allclose(found, integrals, rtol=1e-12, atol=1e-12)
    assert check_main([str(tmp_path / "case.toml")]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "history = [2.0, 4.0], times = [900.0, 1800.0]",
            r"sources\[0\].times: got 900 to 1800; allowed: .* the steps, 0 to 8",
        ),
        (
            "history = [2.0, 4.0], times = [-9.0, -1.0]",
            r"sources\[0\].times: got -9 to -1; allowed: times that meet",
        ),
        ("times = [0.0, 1.0]", r"sources\[0\].times: got given without history"),
    ],
)
def test_histories_of_which_nothing_or_one_value_would_be_seen_are_refused(
    tmp_path, source, message
):
    with pytest.raises(InputError, match=message):
        read(tmp_path, SOURCE.replace("SOURCE", source))


def test_the_page_of_the_format_says_what_holds_outside():
    page = document()
    assert (
        page.count(
            "before the first the first value holds, after the last the last one"
        )
        == 3
    )
    assert page.count("outside of them it is 0") == 3


# ---- smoothness ----------------------------------------------------------------------------------


SMOOTH = """
[grid]
shape = [8]
[equation]
known = { D = 0.01 }
[time]
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
INITIAL = np.array([1.0, 3.0, 4.0, 2.0])


def value_of(tmp_path, text):
    """The regularizer of h at the initial values."""
    case = read(tmp_path, text)
    on = case.on(case.grid(MPI.COMM_SELF))
    m = on.start()
    p = PETSc.Vec().createWithArray(on.space.values(m, "h").copy(), comm=MPI.COMM_SELF)
    return regularizers(case.table, case.domain, on.space, m, None)["h"].value(p)


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
    found = value_of(tmp_path, SMOOTH.replace("TIMES", times))
    assert found == pytest.approx(expected, rel=1e-13)


def test_equally_spaced_values_count_as_without_times(tmp_path):
    case = read(tmp_path, SMOOTH.replace("TIMES", str((np.arange(4) * 0.1).tolist())))
    assert places(case.table, "h", 4) is None


def test_a_history_with_times_of_other_distances_is_refused(tmp_path):
    second = (
        '[[experiment]]\nsources = [{ shape = 1.0, history = "h", times = TIMES }]\n'
    )
    first = SMOOTH.replace("TIMES", "[0.0, 1.0, 2.0, 4.0]")
    two = first.replace("[[observation]]", second + "[[observation]]")
    moved = value_of(tmp_path, two.replace("TIMES", "[1.0, 2.0, 3.0, 5.0]"))
    assert moved == pytest.approx(
        0.5 * 2.5 * (4 / 0.75 + 1 / 0.75 + 4 / 1.5), rel=1e-13
    )
    said = "times at other distances in experiment[1].sources[0]".replace("[", r"\[")
    with pytest.raises(InputError, match=f"unknown.h.smoothness: got {said}"):
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
        (
            "field",
            "deviation = 2.5",
            "unknown.h.deviation: got 2.5; allowed: none with a field",
        ),
    ],
)
def test_a_prior_that_nothing_would_look_at_is_refused(tmp_path, kind, key, message):
    text = SMOOTH.replace("TIMES", "[0.0]").replace('"history"', f'"{kind}"')
    text = text.replace("length = 4\n", "").replace("[1.0, 3.0, 4.0, 2.0]", "1.0")
    with pytest.raises(InputError, match=message):
        read(tmp_path, text.replace("smoothness = 2.5", key))
