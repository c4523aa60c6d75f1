"""Several starts: where they begin, which minimum is the answer, and one from which no solve is
possible."""

import numpy as np
import pytest

from npde_opt.errors import InputError, SolverError
from npde_opt.forward import Equation, Experiment, Steady
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.observations import at_points
from npde_opt.optimizers import Settings
from npde_opt.parameters import Field, ParameterSpace, Shared, Unknown
from npde_opt.restarts import drawn, identify, lowest, several
from npde_opt.terms import Diffusion, Source

SETTINGS = Settings("gauss-newton", gradient_rtol=1e-8)
SIDES = {"x-": "dirichlet", "x+": "dirichlet"}


def objective(grid, terms, transform="identity"):
    """u = 1/8 is seen in the middle."""
    space = ParameterSpace(grid, [Unknown("q", transform, block=Shared())])
    middle = [at_points(grid, (), np.array([[0.5]]))]
    forward = Steady(space, Equation(grid, terms), {"D": 1.0}, [Experiment()], middle)
    misfit = LeastSquares(np.array([0.125]), 1e-3, forward.layouts[0])
    return Objective(forward, [misfit], {}), space.from_values({"q": 0.3})


def squared(grid):
    """-u'' = q^2: minima at q = 1 and q = -1."""
    return objective(grid, [Diffusion(grid), Source(grid, ("u",), "u", "q*q")])


def stiff(grid):
    """-q u'' = 1: there is no state where q < 0."""
    return objective(grid, [Diffusion(grid, "q"), Source(grid, ("u",), "u", 1.0)])


@pytest.mark.parallel([1, 2])
def test_two_minima_are_told_side_by_side():
    grid = Grid((17,), boundaries=SIDES)
    found = identify(grid, squared, SETTINGS, restarts=[{"q": -0.5}, {"q": 0.8}])
    answers = [o.values["q"][0] for o in found.starts]
    np.testing.assert_allclose(answers, [1.0, -1.0, 1.0], rtol=0.01)
    assert {o.status for o in found.starts} == {"converged"}
    apart = [
        o.start for o in found.starts if answers[found.best] * o.values["q"][0] < 0
    ]
    assert several(found.starts) == apart and len(apart) in (1, 2)
    assert found.values("q")[0] == pytest.approx(answers[found.best])
    assert found.best == lowest(found.starts).start
    assert (
        found.total_solves
        == sum(o.work["total"] for o in found.starts)
        > found.finest_solves
    )


@pytest.mark.parallel([1, 2])
def test_a_start_that_fails_is_a_line():
    grid = Grid((17,), boundaries=SIDES)
    found = identify(grid, stiff, SETTINGS, restarts=[{"q": -1.0}])
    assert [o.status for o in found.starts] == [
        "converged",
        "failed",
    ] and found.best == 0
    assert "not positive" in found.starts[1].reason and found.starts[1].distance is None
    assert several(found.starts) == []


def test_all_starts_failed():
    grid = Grid((17,), boundaries=SIDES)

    def wrong(grid):
        made, m = stiff(grid)
        m.set(-1.0)
        return made, m

    with pytest.raises(
        SolverError, match="all 2 starts failed; the first: .*not positive"
    ):
        identify(grid, wrong, SETTINGS, restarts=[{"q": -2.0}])


def test_an_unknown_that_is_not_there():
    with pytest.raises(InputError, match=r"a start of 'p'; allowed: q"):
        identify(Grid((17,), boundaries=SIDES), stiff, SETTINGS, restarts=[{"p": 1.0}])


def starts(grid, **options):
    unknowns = [
        Unknown(
            "D",
            "log",
            block=Field(fixed=np.where(np.indices(grid.shape)[0] == 0, 2.0, np.nan)),
        ),
        Unknown("r", block=Shared(2)),
        Unknown("w", "identity", (0.0, 1.0), Shared()),
    ]
    space = ParameterSpace(grid, unknowns)
    made = []
    for move in drawn(40, 3, **options):
        made.append(space.from_values({"D": 1.0, "r": [100.0, 200.0], "w": 0.5}))
        move(space, made[-1])
    return space, made


@pytest.mark.parallel([1, 2, 3])
def test_drawn_starts_lie_around_the_given_one():
    grid = Grid((8, 6))
    space, made = starts(grid, spread=0.5, deviations={"w": 3.0})
    r = np.array([space.values(m, "r") for m in made])
    assert np.std(r, axis=0) == pytest.approx(100.0, rel=0.4)
    w = np.array([space.values(m, "w") for m in made])
    assert w.min() == 0 and w.max() == 1
    D = np.array([grid.gather(space.block_vec(m, "D")) for m in made])
    assert (D[:, 0] == np.log(2.0)).all() and np.std(D[:, 1:]) == pytest.approx(
        0.5, rel=0.3
    )
    assert np.abs(np.diff(D[:, 1:], axis=1)).mean() < 0.4 * np.std(D[:, 1:])


def test_drawn_fields_are_one_function_on_all_grids():
    shown = {}
    for n in (4, 12):
        space = ParameterSpace(Grid((n, n)), [Unknown("D", "log")])
        m = space.create_vec()
        drawn(1)[0](space, m)
        shown[n] = space.look(m, "D")
    np.testing.assert_allclose(shown[4], shown[12][1::3, 1::3], rtol=1e-12)


def test_numbers_of_starts():
    with pytest.raises(InputError, match=r"restarts: got -1"):
        drawn(-1)
    with pytest.raises(InputError, match=r"spread: got 0"):
        drawn(1, spread=0)
