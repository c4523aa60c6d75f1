"""Diffractive networks: propagators against the house's evolution, masks, detectors, ranks."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives, drawn, figures, part, total

from npde_opt.errors import InputError
from npde_opt.forward import Equation
from npde_opt.grids import Grid
from npde_opt.networks import (
    Aperture,
    Applied,
    Detectors,
    Evolved,
    Mask,
    Network,
    Place,
    Stencil,
    Step,
    Tanh,
    UnitPower,
    Weight,
    masks,
    opposed,
    propagation,
)
from npde_opt.networks.matrices import as_vec, from_vec
from npde_opt.terms import Absorbing, Diffusion
from npde_opt.terms.absorbing import absorbing_rate

COMM = MPI.COMM_WORLD
LAYERS = {"x-": 2.0, "x+": 2.0, "y-": 2.0, "y+": 2.0}


def regions(cells, count=3):
    return np.random.default_rng(5).standard_normal((count, *cells))


def network(comm, dtype=np.float64):
    grid = Grid((6, 5), extent=(6.0, 5.0), comm=comm)
    way = [propagation(grid, length, 2.0, LAYERS, 0.5) for length in (1.0, 2.0, 0.5)]
    layers = masks(way)
    return Network(
        grid, [*layers, Detectors(layers[-1].target, regions((5, 6)))], dtype=dtype
    )


def from_pictures(comm):
    """A step whose weights are before the aperture, so that all derivatives pass it."""
    grid, fine = Grid((3, 2), comm=comm), Grid((8, 6), extent=(8.0, 6.0), comm=comm)
    W = Stencil(Place.on(grid), 1)
    light = Aperture(W.target, Place.on(fine), 1)
    way = masks([propagation(fine, length, 2.0) for length in (1.0, 2.0)])
    ends = Detectors(way[-1].target, opposed((6, 8), 2, 5.0))
    first = [
        Step(W.source, part(W, "W"), Tanh()),
        Applied(light),
        UnitPower(light.target),
    ]
    return Network(grid, [*first, *way, ends])


KINDS = {"fields": network, "pictures": from_pictures}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(kind):
    check_derivatives(KINDS[kind](COMM))


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree(kind):
    alone = figures(KINDS[kind](MPI.COMM_SELF))
    assert np.allclose(figures(KINDS[kind](COMM)), alone, rtol=1e-10)


@pytest.mark.parallel([1, 2])
def test_pictures_light_an_aperture():
    grid, fine = Grid((3, 2), comm=COMM), Grid((8, 6), comm=COMM)
    light = Aperture(Place.on(grid), Place.on(fine), 1)
    whole = np.arange(6.0).reshape(1, 1, 2, 3)
    u = light.apply(light.source.own(whole))
    wanted = np.zeros((2, 1, 6, 8))
    wanted[0, 0, 1:5, 1:7] = whole[0, 0].repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(u, light.target.own(wanted))
    A, x = light.matrix(), as_vec(light.source, light.source.own(whole)[:, 0])
    out = as_vec(light.target, 0 * u[:, 0])
    A.mult(x, out)
    assert np.allclose(from_vec(light.target, out), u[:, 0])
    after = UnitPower(light.target).at({}, None).step(u)[-1]
    assert np.isclose(total((after**2).sum()), 1.0)


def test_detectors_are_apart():
    R = opposed((64, 64), 10, 3.0, 4)
    assert ((R != 0).sum(axis=0) <= 1).all()
    assert (R > 0).sum(axis=(1, 2)).tolist() == (R < 0).sum(axis=(1, 2)).tolist()
    assert np.ptp((R > 0).sum(axis=(1, 2))) == 0
    assert np.abs(R).max() == 3.0
    assert not R[:, :4].any()
    with pytest.raises(InputError, match="detectors"):
        opposed((8, 8), 10)


def test_single_precision_is_near():
    assert np.allclose(
        figures(network(COMM, np.float32)), figures(network(COMM)), rtol=1e-5, atol=1e-5
    )


def evolved(grid, u, length, steps, k, layers, speed):
    """By Crank-Nicolson of the house, 2ik du/dz = -lap u with absorbing layers, by PRESB."""
    g = 2 * k
    terms = [Diffusion(grid, "one"), Absorbing(grid, "W")]
    equation = Equation(grid, terms, ("re", "im"), 1j * g)
    known = {"one": 1.0, "W": g * absorbing_rate(grid, layers, speed)}
    step = Evolved(equation, {}, known, "crank-nicolson", length / steps)
    at = step.at({}, None)
    for _ in range(steps):
        u = at.step(u)[-1]
    step.destroy()
    return u


@pytest.mark.parallel([1, 2])
def test_propagation_is_the_limit_of_the_steps_of_the_house():
    grid = Grid((24, 24), extent=(24.0, 24.0), comm=COMM)
    lines = propagation(grid, 6.0, 3.0, {"x-": 6.0, "x+": 6.0, "y+": 6.0}, 0.3)
    x, y = grid.coordinates()
    u = np.zeros(lines.source.shape(1))
    u[0, 0] = np.exp(-((x - 19) ** 2 + (y - 10) ** 2) / 8).T
    after = lines.apply(u)
    assert total(np.vdot(after, after)) < 0.999 * total(np.vdot(u, u))
    errors = []
    for steps in (8, 16):
        found = evolved(
            grid, u, 6.0, steps, 3.0, {"x-": 6.0, "x+": 6.0, "y+": 6.0}, 0.3
        )
        errors.append(
            np.sqrt(total(((found - after) ** 2).sum()) / total((after**2).sum()))
        )
    assert errors[1] < 1e-3
    assert abs(errors[0] / errors[1] - 4) < 0.2, errors


@pytest.mark.parallel([1, 2])
def test_norms_are_kept_where_nothing_absorbs():
    grid = Grid((12, 10), comm=COMM)
    lines = propagation(grid, 0.3, 20.0)
    mask = Mask(lines.source, Weight("phi", (10, 12)))
    phi = np.random.default_rng(0).standard_normal((10, 12))
    u = drawn(lines.source, 3, 1)
    after = mask.at({"phi": phi}, None).step(lines.apply(u))[-1]
    assert abs(total(np.vdot(after, after)) / total(np.vdot(u, u)) - 1) < 1e-12
    assert total(np.abs(after - u).sum()) > 1


@pytest.mark.parallel([1, 2, 3])
def test_products_are_those_of_the_matrices():
    grid = Grid((6, 5), comm=COMM)
    lines = propagation(grid, 0.3, 20.0, {"x-": 0.3}, 0.1)
    mask = Mask(lines.source, Weight("phi", (5, 6)))
    k = {"phi": np.random.default_rng(0).standard_normal((5, 6))}
    u, y = drawn(lines.source, 2, 1), drawn(lines.source, 2, 2)
    products = total(np.vdot(lines.apply(u), y)), total(np.vdot(u, lines.transpose(y)))
    assert np.isclose(*products, rtol=1e-12)
    for A, after in (
        (lines.matrix(), lines.apply(u)),
        (mask.matrix(k), mask.at(k, None).step(u)[1]),
    ):
        x, out = as_vec(lines.source, u[:, 1]), as_vec(lines.source, u[:, 1])
        A.mult(x, out)
        assert np.allclose(from_vec(lines.source, out), after[:, 1], atol=1e-13)


def test_a_volume_propagates():
    grid = Grid((4, 3, 5), comm=COMM)
    lines = propagation(grid, 0.3, 5.0)
    u = drawn(lines.source, 2, 1)
    A, x = lines.matrix(), as_vec(lines.source, u[:, 1])
    out = x.duplicate()
    A.mult(x, out)
    assert np.allclose(from_vec(lines.source, out), lines.apply(u)[:, 1], atol=1e-13)


def test_what_does_not_fit_is_told():
    grid = Grid((6, 5), comm=COMM)
    with pytest.raises(InputError, match="length"):
        propagation(grid, 0.0, 1.0)
    with pytest.raises(InputError, match="shape"):
        Mask(Place.on(grid, 2), Weight("phi", (6, 5)))
    with pytest.raises(InputError, match="channels"):
        Mask(Place.on(grid, 3), Weight("phi", (5, 6)))
    with pytest.raises(InputError, match="regions"):
        Detectors(Place.on(grid, 2), np.ones((2, 6, 5)))
