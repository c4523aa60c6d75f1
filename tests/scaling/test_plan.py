import math
from pathlib import Path

import pytest

from npde_opt.errors import InputError
from npde_opt.scaling.plan import Plan, Run

DRIVER = str(Path(__file__).parents[2] / "drivers" / "identify.py")


def plan(**changes):
    given = {
        "command": (DRIVER, "--case", "a.toml"),
        "kinds": ("strong", "weak"),
        "ranks": (1, 2, 4, 8),
        "groups": (1,),
        "grids": ((64, 64),),
        "repeats": 1,
        "where": "/",
    }
    return Plan(**(given | changes))


def test_weak_runs_keep_the_cells_of_a_rank_and_the_halving():
    weak = [r for r in plan().runs() if r.kind == "weak"]
    assert [r.ranks for r in weak] == [1, 2, 4, 8]
    for run in weak:
        assert all(n % 8 == 0 for n in run.grid)
        assert math.prod(run.grid) / run.ranks == pytest.approx(64 * 64, rel=0.1)


def test_weak_runs_in_three_dimensions():
    runs = plan(kinds=("weak",), ranks=(1, 8), grids=((16, 16, 24),)).runs()
    assert [r.grid for r in runs] == [(16, 16, 24), (32, 32, 48)]


def test_strong_runs_keep_the_grid_and_share_their_folder_with_weak_ones():
    runs = list(plan().runs())
    assert {r.grid for r in runs if r.kind == "strong"} == {(64, 64)}
    assert len({r.name for r in runs}) == len(runs) - 1


def test_groups_take_the_ranks_that_they_divide():
    runs = list(plan(kinds=("strong",), groups=(1, 2), repeats=2).runs())
    assert {(r.ranks, r.groups) for r in runs} == {
        (1, 1),
        (2, 1),
        (4, 1),
        (8, 1),
        (2, 2),
        (4, 2),
        (8, 2),
    }
    assert len(runs) == 14
    assert Run("strong", 4, 2, (64, 64), 0).options() == [
        "--grid",
        "64",
        "64",
        "--experiment-groups",
        "2",
    ]


def test_a_plan_is_read_as_it_was_written():
    import json

    assert Plan.of(json.loads(plan().text())) == plan()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": ()}, "the command: got none"),
        ({"command": ("no/such.py",)}, "the file of a driver"),
        ({"command": (DRIVER, "--out", "x")}, "the command: got --out"),
        ({"ranks": (1, 0)}, "--ranks: got 0"),
        ({"ranks": (2, 2)}, "each number once"),
        ({"repeats": 0}, "--repeats: got 0"),
        ({"grids": ((4, -1),)}, "--grid: got -1"),
        ({"grids": ((2, 2),), "kinds": ("strong",)}, "at most the 4 cells"),
        ({"grids": ((10**7, 10**7),)}, "--grid"),
        ({"grids": ()}, "--kinds: got weak"),
        ({"groups": (3,)}, "divisors"),
        ({"command": (DRIVER.replace("identify", "train_classifier"),)}, "with a grid"),
        (
            {
                "command": (DRIVER.replace("identify", "train_pseudoinverse"),),
                "groups": (1, 2),
                "grids": (),
                "kinds": ("strong",),
            },
            "no experiments",
        ),
    ],
)
def test_nonsense_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        plan(**changes).check()
