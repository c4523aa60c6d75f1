"""What a history is outside its times: as the pages of the format say, and `check` too."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.cases import check_main, load_case
from npde_opt.cases.evolution_schema import document_evolution
from npde_opt.errors import InputError

CASE = """
[grid]
shape = [4]
[evolution]
terms = [{ reaction = "none" }]
known = { none = 0.0 }
times = { end = 8.0, steps = 8 }
scheme = "heun"
derived = {}
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
quantity = "u"
points = [[0.5]]
"""


def read(tmp_path, source):
    (tmp_path / "case.toml").write_text(CASE.replace("SOURCE", source))
    return load_case(tmp_path / "case.toml", MPI.COMM_SELF)


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
    case = read(tmp_path, source)
    grid = case.grid(MPI.COMM_SELF)
    forward = case.forward(grid, [0])
    found = forward.observers[0].gather(forward.linearize(case.start(forward.space)).data[0])
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
        ("times = [0.0, 1.0]", r"sources\[0\].times: got given without a history"),
    ],
)
def test_histories_of_which_nothing_or_one_value_would_be_seen_are_refused(
    tmp_path, source, message
):
    with pytest.raises(InputError, match=message):
        read(tmp_path, source)


def test_the_page_of_the_format_says_what_holds_outside():
    page = document_evolution()
    assert page.count("before the first the first value holds, after the last the last one") == 2
    assert page.count("outside of them the source is 0") == 2
