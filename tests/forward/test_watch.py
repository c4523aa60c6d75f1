"""A state or step that crosses the limit of an explicit scheme between two looks is seen before a
step is taken from it."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.forward import Equation, Evolution, Experiment, scheme
from npde_opt.forward.watch import Watch, allowed
from npde_opt.grids import Grid
from npde_opt.observations import snapshots
from npde_opt.parameters import ParameterSpace, Shared, Unknown
from npde_opt.terms import Kinetics, NonlinearDiffusion, Source
from npde_opt.terms.state import SAMPLE, sample

comm = MPI.COMM_WORLD
EXPLICIT = ["explicit-euler", "heun", "imex-euler", "imex-theta", "ars222"]


def last(terms, initial, times, species, name, source=None):
    """What is seen of the last species at the end."""
    grid = Grid((24,), comm=comm)
    space = ParameterSpace(grid, [Unknown("unused", block=Shared())])
    sources = [Source(grid, species, "u", *source)] if source else []
    forward = Evolution(
        space,
        Equation(grid, terms(grid), species),
        {},
        [Experiment(initial, sources)],
        [snapshots(grid, [times[-1]], species[-1])],
        scheme(name),
        times,
    )
    m = space.create_vec()
    try:
        return forward.linearize(m).data[0].gather()[:, 0]
    finally:
        forward.destroy()
        m.destroy()


def pulse(height, first, length, name):
    """A pulse of u, in the last cells, lets v decay at the rate u; without it nothing happens.
    1,000 steps."""
    times = np.linspace(0.0, 10.0, 1001)
    ends = [0.0, times[first], times[first + length]]
    kinetics = {"u": "-50*u", "v": "-u*v"}
    return last(
        lambda g: [Kinetics(g, ("u", "v"), kinetics)],
        {"v": 1.0},
        times,
        ("u", "v"),
        name,
        ("where(x > 0.8, 1, 0)", [0.0, height, 0.0], ends, "steps"),
    )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.fewer(2, name=["heun"])
@pytest.mark.parametrize("name", EXPLICIT)
def test_kinetics_that_are_too_fast_for_a_few_steps(name):
    for first in (300, 507, 901):
        with pytest.raises(
            InputError, match="exceeds the stability limit .* of kinetics in step"
        ):
            pulse(60_000.0, first, 4, name)
    found = pulse(500.0, 507, 4, name)
    # The integral of u is that of the source over 50.
    expected = np.where(np.arange(24) >= 20, np.exp(-500.0 * 0.04 / 50), 1.0)
    expected[19] = found[19]  # its middle lies beyond 0.8
    np.testing.assert_allclose(found, expected, rtol=0.05)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", EXPLICIT)
def test_steps_that_are_too_long_for_a_while(name):
    short = np.linspace(0.0, 1.0, 501)
    kinetics = [{"u": "-2*u"}]

    def run(long):
        times = np.concatenate(
            [short, 1.0 + long * np.arange(1, 4), 1.0 + 3 * long + short[1:]]
        )
        return times[-1], last(
            lambda g: [Kinetics(g, ("u",), kinetics[0])],
            {"u": 1.0},
            times,
            ("u",),
            name,
        )

    with pytest.raises(
        InputError, match="a step of 3 by .* exceeds the stability limit"
    ):
        run(3.0)
    end, found = run(0.02)
    np.testing.assert_allclose(found, np.exp(-2 * end), rtol=0.02)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("name", EXPLICIT)
def test_a_diffusivity_that_is_too_large_for_a_few_steps(name):
    times = np.linspace(0.0, 0.4, 401)

    def run(height, first):
        ends = [0.0, times[first], times[first + 3]]
        return last(
            lambda g: [
                NonlinearDiffusion(g, ("u",), "u", "0.1*u"),
                Kinetics(g, ("u",), {"u": "-400*u*(u > 1)"}),
            ],
            {"u": 0.2},
            times,
            ("u",),
            name,
            (1.0, [0.0, height, 0.0], ends, "steps"),
        )

    for first in range(200, 208):
        with pytest.raises(InputError, match="exceeds the stability limit"):
            run(20_000.0, first)
    np.testing.assert_allclose(run(100.0, 203), 0.5, rtol=1e-10)


def test_samples_go_through_all_cells():
    field = np.arange(3000.0 * 2).reshape(3000, 2, order="F")
    seen = np.unique(np.concatenate([sample(field, start) for start in range(5)]))
    np.testing.assert_array_equal(seen, np.arange(6000.0))
    assert sample(field).size <= 2 * SAMPLE and sample(np.ones((10, 10))).size == 100


def test_how_far_a_state_may_move():
    """Less the nearer the limit; states that are 0, not finite or new count as far."""
    assert allowed(0.0) == 0.5 and allowed(1e-3) == 0.5 and allowed(1.0) == 0.02
    assert allowed(0.5) == pytest.approx(2**0.25 - 1)
    watch = Watch()
    watch.keep(
        np.array([[1.0, 2.0, -4.0, 0.0], [0.0] * 4]),
        np.array([4.0, 0.0]),
        0.1,
        0.0,
    )
    assert watch.moved(np.array([[1.0, 2.0, -4.0, 1.0], [0.0] * 4])) == pytest.approx(
        0.5
    )
    assert (
        watch.moved(np.array([[1.0, 2.0, -4.0, 0.0], [0.0, 0.0, 1e-300, 0.0]]))
        == np.inf
    )
    assert watch.moved(np.array([[1.0, np.nan, -4.0, 0.0], [0.0] * 4])) == np.inf
    assert not watch.longer(0.1) and watch.longer(0.11)
