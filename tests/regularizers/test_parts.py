"""Regularizers of channels, steps and matrices: values by hand, Taylor remainders, and the inverse
of the Hessian."""

import numpy as np
import pytest

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.parameters import Field, Matrix, ParameterSpace, PerStep, Shared, Unknown
from npde_opt.regularizers import BiLaplacian, Gradient, Parts, Ridge

ACTIVE = np.ones((7, 6), bool)
ACTIVE[:2, :3] = False
TIMES = [0.0, 0.5, 2.0, 3.0]
BLOCKS = {
    "channels": Field(3),
    "steps": PerStep(Field(), 4),
    "steps of channels": PerStep(Field(2), 4),
}
ONES = {
    "gradient": lambda grid: Gradient(grid, 0.7, cell_weights=2.0),
    "bilaplacian": lambda grid: BiLaplacian(grid, 0.7, gamma=0.1, delta=2.0),
    "variance": lambda grid: BiLaplacian(
        grid, 0.7, correlation_length=0.3, variance=2.0
    ),
}


def block_of(block, grid):
    return ParameterSpace(grid, [Unknown("k", block=block)]).blocks["k"]


def random(block, seed):
    vec = block.create_vec()
    block.view(vec.getArray())[...] = block.noise(seed)
    return vec


def made(name, one, **options):
    """The regularizer of a kind of block, smooth in time where there are steps."""
    block = block_of(BLOCKS[name], Grid((7, 6), active=ACTIVE, extent=(1.0, 2.0)))
    if name != "channels":
        options = {"smoothness": 3.0, "times": TIMES} | options
    return block, Parts(
        block, ONES[one](block_grid(block)), reference=random(block, 5), **options
    )


def block_grid(block):
    return getattr(block, "one", block).grid


def check(R, block):
    """Gradient and Hessian against differences, which are exact where R is quadratic; R''^-1."""
    p, dp, r, out = (random(block, seed) for seed in range(4))
    R.gradient(p, out)
    slope = out.dot(dp)
    ends = [p.copy(), p.copy()]
    for end, sign in zip(ends, (1.0, -1.0), strict=True):
        end.axpy(sign, dp)
    up, down = (R.value(end) for end in ends)
    assert (up - down) / 2 == pytest.approx(slope, rel=1e-10)
    R.hessian(p, dp, out)
    assert up + down - 2 * R.value(p) == pytest.approx(out.dot(dp), rel=1e-8)
    R.hessian(p, r, ends[0])
    assert ends[0].dot(dp) == pytest.approx(out.dot(r), rel=1e-9)
    R.precondition(p, out, ends[1])
    ends[1].axpy(-1.0, dp)
    R.hessian(p, ends[1], ends[0])
    assert abs(ends[0].dot(ends[1])) < 1e-8 * out.dot(dp)
    R.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", list(BLOCKS))
@pytest.mark.parametrize("one", list(ONES))
def test_derivatives_and_inverse(name, one):
    block, R = made(name, one)
    check(R, block)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("block", [Matrix(9, 2), PerStep(Matrix(5, 2), 3), Field(2)])
def test_ridge(block):
    placed = block_of(block, Grid((6, 5)))
    check(Ridge(placed, 0.3, random(placed, 5)), placed)


@pytest.mark.parallel([1, 2])
def test_a_step_between_constant_fields_costs_its_square_over_the_time():
    grid = Grid((4, 3), extent=(2.0, 1.0))
    block = block_of(PerStep(Field(), 3), grid)
    R = Parts(block, Gradient(grid, 1.0, mass_weight=0.0), 5.0, [0.0, 1.0, 3.0])
    p = block.create_vec()
    for step, value in enumerate((1.0, 2.0, 6.0)):
        block.view(p.getArray())[step] = value
    assert R.value(p) == pytest.approx(
        0.5 * 5.0 * 2.0 * (1.0 / 1.0 + 16.0 / 2.0), rel=1e-12
    )
    R.destroy()


def test_blocks_and_weights_that_cannot_be():
    grid = Grid((4, 3))
    field, numbers = block_of(Field(2), grid), block_of(Shared(3), grid)
    with pytest.raises(InputError, match="Parts: block: got PlacedShared"):
        Parts(numbers, Gradient(grid, 1.0))
    with pytest.raises(InputError, match="smoothness: got 1 with 1 steps"):
        Parts(field, Gradient(grid, 1.0), 1.0)
    with pytest.raises(InputError, match="times: got 2 values; allowed: 4 increasing"):
        Parts(block_of(PerStep(Field(), 4), grid), Gradient(grid, 1.0), 1.0, [0.0, 1.0])
    with pytest.raises(InputError, match="weight: got -1"):
        Ridge(field, -1.0)
