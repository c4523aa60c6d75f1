"""Choosing the regularization weight: the corner of an L-curve, a misfit at the noise."""

from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt import nested, weight_choice
from npde_opt.cases import load_case
from npde_opt.curvatures import curvatures
from npde_opt.ensemble import Ensemble
from npde_opt.grids import Grid
from npde_opt.optimizers import Settings
from npde_opt.weight_choice import close_in, corner, largest

WORLD = MPI.COMM_WORLD


@pytest.mark.parametrize("at", [3, 6, 8])
def test_corner_of_an_l_with_a_known_one(at):
    w = 4.0 ** -np.arange(12)
    misfits, regularizations = 10 * (1 + w / w[at]), 3 * (1 + (w[at] / w) ** 0.8)
    assert abs(corner(list(misfits), list(regularizations)) - at) <= 1


def test_a_bend_the_other_way_is_no_corner():
    """Flat, steep at the shoulder (concave), then the corner (convex) at index 6."""
    misfits = np.exp([9.0, 9, 9, 8.5, 6, 3, 1, 1, 1, 1])
    regularizations = np.exp([0.0, 2, 4, 4.2, 4.4, 4.6, 5, 6.5, 8, 9.5])
    assert corner(list(misfits), list(regularizations)) == 6


def test_closing_in_finds_the_weight_of_chi_squared_one():
    chi = lambda w: 0.4 + 0.6 * (w / 0.3) ** 0.7  # noqa: E731
    tried = [(w, 0.0, 0.0, chi(w)) for w in (1.0, 0.25)]

    def attempt(w):
        tried.append((w, 0.0, 0.0, chi(w)))
        return chi(w)

    found = close_in(attempt, tried)
    assert found == pytest.approx(0.3, rel=0.1) and chi(found) == pytest.approx(
        1, abs=0.03
    )
    assert len(tried) <= 6


class Curve:
    """Fits whose chi^2 is a given function of the weight, from the weight 1 down."""

    def __init__(self, monkeypatch, chi):
        self.chi, self.weights = chi, []
        nothing = SimpleNamespace(destroy=lambda: None)
        fitted = SimpleNamespace(m=nothing)
        monkeypatch.setattr(weight_choice, "balance", lambda build: (1.0, nothing, {}))
        monkeypatch.setattr(weight_choice, "minimize", lambda *given: fitted)

    def build(self, weight):
        self.weights.append(weight)
        at = SimpleNamespace(
            chi_squared=lambda: self.chi(weight),
            misfit=1.0,
            regularization=1.0,
            destroy=lambda: None,
        )
        objective = SimpleNamespace(linearize=lambda m: at, destroy=lambda: None)
        return objective, SimpleNamespace(destroy=lambda: None)

    def chosen(self):
        return weight_choice.choose(self.build, "discrepancy", Settings())


def falls(high, low, at):
    """From high to low where the weight passes `at`."""
    return lambda w: low + (high - low) * w / (w + at)


@pytest.mark.parametrize(
    ("high", "low", "at", "by_fours"),
    [(1.6, 0.95, 1e-6, 13), (1.05, 0.97, 1e-6, 12), (200, 0.9, 1e-7, 19)],
)
def test_far_weights_are_passed_quickly(monkeypatch, high, low, at, by_fours):
    """The weights that are tried from the first one whose chi^2 has moved on are the same."""
    curve = Curve(monkeypatch, falls(high, low, at))
    found = curve.chosen()
    assert found.reached and curve.chi(found.weight) == pytest.approx(1, abs=0.03)
    assert len(curve.weights) < by_fours - 3
    assert np.log(found.weight) / np.log(4) == pytest.approx(
        round(np.log(found.weight) / np.log(4)), abs=1e-9
    )


def test_once_chi_squared_has_fallen_weights_go_down_by_4(monkeypatch):
    curve = Curve(monkeypatch, lambda w: 1.2 + 1000 * w)
    found = curve.chosen()
    steps = np.array(curve.weights[:-1]) / curve.weights[1:]
    np.testing.assert_allclose(steps, 4)
    assert not found.reached and found.weight == curve.weights[-1]


def test_where_no_weight_helps_the_largest_that_is_as_good_is_taken(monkeypatch):
    """Of a start that is good already chi^2 never falls to its half."""
    curve = Curve(monkeypatch, falls(1.5, 1.01, 1e-2))
    found = curve.chosen()
    assert not found.reached and len(curve.weights) <= 12
    assert 1e-6 < found.weight < 1e-3


FIELDS = """
[grid]
shape = [12]
[boundaries]
"x-" = "neumann"
"x+" = "neumann"
[equation]
terms = [{ diffusion = "D" }]
[time]
scheme = "backward-euler"
times = { end = 1.0, steps = 3 }
[[unknown]]
name = "D"
initial = { expression = "0.05*exp(0.4*sin(6*x))" }
truth = { expression = "0.05*exp(0.5*sin(6*x))" }
FIRST
[[experiment]]
initial = { u = STATE }
[[observation]]
random = 8
times = { start = 0.0, end = 1.0, count = 4 }
noise = 0.01
[[regularization]]
unknown = "D"
"""
START = '{ expression = "1 + cos(3*x)" }'
SOUGHT = f"""[[unknown]]
name = "u0"
transform = "identity"
initial = {START}
truth = {START}
"""


def built(folder, comm, sought):
    """The objective, its start, and the case's grid."""
    first, state = (SOUGHT, '"u0"') if sought else ("", START)
    path = folder / f"case{comm.rank}.toml"
    path.write_text(FIELDS.replace("FIRST", first).replace("STATE", state))
    case, ensemble = load_case(path, comm), Ensemble.whole(comm)
    case.prepare(ensemble)
    return case.build(case.grid(comm), ensemble)


@pytest.mark.parallel([1, 2, 3])
def test_unknowns_without_a_regularizer_do_not_move_the_first_weight(tmp_path):
    weights = [largest(*built(tmp_path, WORLD, sought)) for sought in (False, True)]
    assert weights[1] == pytest.approx(weights[0], rel=1e-6)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(("method", "names"), [("gauss-newton", ["u0"]), ("lbfgs", [])])
def test_a_fit_scales_unknowns_without_a_regularizer(tmp_path, method, names):
    """Without that CG took three times the products for a field beside its first state."""
    given = built(tmp_path, WORLD, True)
    settings = Settings(method=method, max_iterations=1)
    grid = given[0].space.grid
    found = nested.identify(grid, lambda _: given, settings, levels=1)
    assert list(found.objective.curvatures) == names


def test_few_numbers_are_not_scaled(tmp_path):
    """CG is through with them in as many steps. Scaled, it stopped where those with a prior were
    done: a fit of six numbers crept for fifty iterations and ended far from its minimum."""
    objective, _ = built(tmp_path, WORLD, True)
    assert nested._is_mixed(objective)
    objective.few = True
    assert not nested._is_mixed(objective)


def test_finer_grids_and_resumed_runs_have_the_scales_of_the_coarsest(tmp_path):
    """A start that was given need not be one that the finer grids can run from."""
    coarsest = built(tmp_path, WORLD, True)
    grids, asked = nested.grids(Grid((32, 32)), 2), []

    def build(grid):
        asked.append(grid)
        return built(tmp_path, WORLD, True)

    settings = Settings(method="newton")
    whole, resumed = (
        nested._Levels(grids, build, settings, None, None) for _ in range(2)
    )
    scales = whole._scales(0, *coarsest)
    assert whole._scales(1, None, None) is scales
    assert not asked
    assert resumed._scales(1, None, None) == scales
    assert asked == grids[:1]


@pytest.mark.parallel([1, 2, 3])
def test_unknowns_without_a_regularizer_are_scaled_by_what_data_tell(tmp_path):
    objective, m = built(tmp_path, WORLD, True)
    found = curvatures(objective, m)
    assert list(found) == ["u0"]
    at, space = objective.linearize(m), objective.space
    plain, scaled, image = (objective.create_vec() for _ in range(3))
    at.precondition(at.gradient(), plain)
    objective.curvatures = found
    at.precondition(at.gradient(), scaled)
    np.testing.assert_array_equal(space.own(scaled, "D"), space.own(plain, "D"))
    own = space.own(plain, "u0") / found["u0"]
    np.testing.assert_allclose(space.own(scaled, "u0"), own, rtol=1e-12)
    # What was scaled by it has the curvature 1: q^T H q = q^T g along q.
    space.zero_block(scaled, "D")
    at.data_hessian(scaled, image, True)
    assert scaled.dot(image) == pytest.approx(at.gradient().dot(scaled), rel=1e-6)
