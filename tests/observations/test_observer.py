"""Observers of steady states and trajectories: values, exact derivatives, and the order of data."""

import numpy as np
import pytest

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.observations import (
    DataLayout,
    Observer,
    at_points,
    box_mean,
    difference,
    from_functionals,
    over_regions,
    points_at,
    snapshots,
    voxels,
)

SHAPE = (7, 6)
MASK = np.ones(SHAPE, bool)
MASK[0, :3] = MASK[4, 4] = False
POINTS = np.array([[0.5, 0.1], [0.9, 0.9], [0.45, 0.6]])
REGIONS = np.add.outer(np.arange(7) // 4, np.zeros(6, int))
TIMES = np.array([0.0, 0.1, 0.3, 0.6])
SPECIES = ("u", "v")
THRESHOLD = "1/(1 + exp(-(v - 0.3)/0.2))"
QUANTITIES = ["", "u", "v", "u**2 + v**2", "exp(u*v)", THRESHOLD, "2*u - v", "3"]
STEADY = pytest.mark.parametrize("steady", [True, False], ids=["steady", "times"])


def samplings(grid, quantity, steady):
    """Of every kind; where there are times, at other ones each, and some more than once."""
    when = (
        [()] * 5 if steady else [(0.1, 0.6), (0.6,), TIMES, (0.0, 0.6), (0.3, 0.1, 0.3)]
    )
    pairs = difference(points_at(grid, POINTS), box_mean(grid, (0.5, 0), (1, 1)))
    return [
        at_points(grid, when[0], POINTS, quantity),
        over_regions(grid, when[1], REGIONS, quantity),
        snapshots(grid, when[2], quantity),
        voxels(grid, when[3], [np.array([0, 0.4, 1])] * 2, quantity),
        from_functionals(grid, when[4], pairs, quantity),
    ]


def observer_of(quantity, steady, active=MASK):
    grid = Grid(SHAPE, active=active)
    return Observer(
        grid, SPECIES, () if steady else TIMES, samplings(grid, quantity, steady)
    )


def states(grid, seed, steady):
    """u(t_n) [c, i, j] of the owned cells, the same on any number of ranks."""
    values = np.random.default_rng(seed).random(
        (1 if steady else TIMES.size, 2, *SHAPE)
    )
    return values[(..., *grid.local_slice)]


def layout(observer):
    return DataLayout(observer.grid.comm, observer.size, observer.order, (0,))


def data(observer, seed):
    return layout(observer).noise(seed)


def observed(observer, u):
    block = layout(observer).zeros()
    for n, state in enumerate(u):
        observer.observe(n, state, block.values)
    return block.gather()[:, 0]


def pushed(observer, u, du):
    block = layout(observer).zeros()
    for n, (state, change) in enumerate(zip(u, du, strict=True)):
        observer.push(n, state, change, block.values)
    return block.gather()[:, 0]


def pulled(observer, u, d):
    out = np.zeros_like(u)
    for n, state in enumerate(u):
        observer.pull(n, state, d.values, out[n])
    return out


def second(observer, u, du, d):
    out = np.zeros_like(u)
    for n, (state, change) in enumerate(zip(u, du, strict=True)):
        observer.second(n, state, change, d.values, out[n])
    return out


def dot(grid, a, b):
    return reductions.total(grid.comm, float(np.sum(a * b)))


def everywhere(grid, u):
    """Arrays of owned cells, as global ones on every rank."""
    full = np.zeros((*u.shape[:2], *SHAPE))
    for box, part in grid.comm.allgather((grid.local_slice, u)):
        full[(..., *box)] = part
    return full


@pytest.mark.parallel([1, 2, 3])
@STEADY
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_push_and_pull_are_transposes_of_each_other(quantity, steady):
    observer = observer_of(quantity, steady)
    grid = observer.grid
    u, du = states(grid, 0, steady), states(grid, 1, steady)
    d = data(observer, 2)
    forth = float(pushed(observer, u, du) @ d.gather()[:, 0])
    back = dot(grid, pulled(observer, u, d), du)
    assert forth == pytest.approx(back, rel=1e-12, abs=1e-13)
    curved = second(observer, u, du, d)
    other = states(grid, 3, steady)
    symmetric = dot(grid, second(observer, u, other, d), du)
    assert dot(grid, curved, other) == pytest.approx(symmetric, rel=1e-12, abs=1e-13)


@pytest.mark.parallel([1, 2, 3])
@STEADY
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_first_and_second_derivatives_have_taylor_remainders_of_order_two(
    quantity, steady
):
    observer = observer_of(quantity, steady)
    grid = observer.grid
    u, du = states(grid, 0, steady), states(grid, 1, steady)
    d = data(observer, 2)
    start, slope = observed(observer, u), pushed(observer, u, du)
    pull, curve = pulled(observer, u, d), second(observer, u, du, d)
    errors = []
    for h in (1e-2, 1e-3):
        moved = u + h * du
        first = observed(observer, moved) - start - h * slope
        further = pulled(observer, moved, d) - pull - h * curve
        errors.append([np.linalg.norm(first), dot(grid, further, further) ** 0.5])
    for coarse, fine in zip(*errors, strict=True):
        assert fine < 1e-13 or 80 < coarse / fine < 125


@pytest.mark.parallel([1, 2, 3])
@STEADY
def test_data_are_ordered_by_sampling_time_and_place(steady):
    observer = observer_of("u*v", steady)
    grid = observer.grid
    u = states(grid, 0, steady)
    whole = everywhere(grid, u)
    seen = np.where(MASK, whole[:, 0] * whole[:, 1], 0.0)
    volume = MASK / np.prod(SHAPE)
    expected = []
    for k, s in enumerate(observer.samplings):
        for t in s.times or (0.0,):
            field = seen[np.flatnonzero(t == TIMES)[0]]
            if k == 1:
                shares = [volume * (r == REGIONS) for r in range(2)]
                expected.append([(field * w).sum() / w.sum() for w in shares])
            elif k == 2:
                expected.append(field.ravel(order="F"))
            else:
                vec = grid.from_natural(field)
                y = s.matrix.createVecLeft()
                s.matrix.mult(vec, y)
                expected.append(np.concatenate(grid.comm.allgather(y.getArray())))
    np.testing.assert_allclose(
        observed(observer, u), np.concatenate(expected), rtol=1e-13
    )
    values = np.arange(observer.size, dtype=float)
    block = layout(observer).block(values)
    np.testing.assert_array_equal(block.gather()[:, 0], values)


@pytest.mark.parallel([1, 2, 3])
@STEADY
def test_every_number_of_ranks_sees_the_same(steady):
    observer = observer_of("exp(u*v)", steady)
    grid = observer.grid
    u, du = states(grid, 0, steady), states(grid, 1, steady)
    d = data(observer, 2)
    found = [observed(observer, u), pushed(observer, u, du)]
    found += [
        everywhere(grid, x)
        for x in (pulled(observer, u, d), second(observer, u, du, d))
    ]
    # The same on one rank alone: each rank makes it for itself.
    alone = Grid(SHAPE, active=MASK, comm=grid.comm.Split(grid.comm.rank))
    single = Observer(
        alone, SPECIES, observer_times(steady), samplings(alone, "exp(u*v)", steady)
    )
    u, du, d = states(alone, 0, steady), states(alone, 1, steady), data(single, 2)
    expected = [
        observed(single, u),
        pushed(single, u, du),
        pulled(single, u, d),
        second(single, u, du, d),
    ]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def observer_times(steady):
    return () if steady else TIMES


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("active", [None, MASK], ids=["all", "masked"])
def test_a_species_is_seen_as_its_text_is(active):
    """By the direct path and by that of expressions, to the last digit."""
    for name, text in (("u", "u + 0*v"), ("", "1*u + 0*v"), (" v ", "v + 0*u")):
        found = []
        for quantity in (name, text):
            observer = observer_of(quantity, False, active)
            grid = observer.grid
            u, du, d = states(grid, 0, False), states(grid, 1, False), data(observer, 2)
            found.append(
                [
                    observed(observer, u),
                    pushed(observer, u, du),
                    pulled(observer, u, d),
                    second(observer, u, du, d),
                ]
            )
        assert observer.quantities[0].is_species == (quantity == name)
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parallel([1, 2])
@STEADY
def test_what_inactive_cells_hold_is_not_seen(steady):
    for quantity in ("u", "1/u"):
        observer = observer_of(quantity, steady)
        grid = observer.grid
        u, d = states(grid, 0, steady) + 0.5, data(observer, 2)
        expected = observed(observer, u), pulled(observer, u, d)
        u[..., ~grid.active] = 0.0 if quantity == "1/u" else np.nan
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(observed(observer, u), expected[0])
            found = pulled(observer, u, d)
        np.testing.assert_array_equal(
            found[..., grid.active], expected[1][..., grid.active]
        )
        assert not found[..., ~grid.active].any()


@pytest.mark.parallel([1, 2, 3])
def test_unseen_are_places_without_active_cells_but_no_differences():
    grid = Grid(SHAPE, active=MASK)
    whole = box_mean(grid, (0, 0), (1, 1))
    regions = np.where(MASK, 0, 1)
    seen = [
        from_functionals(grid, (), difference(points_at(grid, POINTS), whole)),
        from_functionals(grid, (), difference(whole, whole)),
        over_regions(grid, (), regions, unseen=True),
        snapshots(grid, ()),
        voxels(grid, (), grid.edges),
    ]
    observer = Observer(grid, ("u",), (), seen)
    holes = ~MASK.ravel(order="F")
    # A place less itself is always 0: nothing can be learned from it.
    expected = [0, 0, 0, 1, 0, 1, *holes, *holes]
    np.testing.assert_array_equal(observer.unseen(), expected)


@pytest.mark.parallel([1, 2, 3])
def test_unseen_is_repeated_at_every_time():
    grid = Grid(SHAPE, active=MASK)
    seen = [over_regions(grid, (0.1, 0.3), np.where(MASK, 0, 1), unseen=True)]
    assert Observer(grid, ("u",), TIMES, seen).unseen().tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("times", "seen", "text"),
    [
        (
            (),
            {"times": (0.1, 0.2)},
            r"observation\[1\].times: got 2 times; allowed: none: a steady",
        ),
        (
            TIMES,
            {"times": ()},
            r"observation\[1\].times: got none; allowed: times from 0 to 0.6",
        ),
        (
            TIMES,
            {"times": (0.1, 0.2)},
            r"observation\[1\].times: got 0.2; allowed: from 0 to 0.6",
        ),
        (
            TIMES,
            {"times": (0.1,), "quantity": "w + 1"},
            r"observation\[1\].quantity: got 'w' .*u, v",
        ),
        (
            TIMES,
            {"times": (0.1,), "quantity": "u +"},
            r"observation\[1\].quantity: got no expression",
        ),
        (
            TIMES,
            {"times": (0.1,), "shape": (7, 5)},
            r"observation\[1\]: got a sampling of 35 cells",
        ),
    ],
)
def test_what_cannot_be_seen_is_named(times, seen, text):
    grid = Grid(SHAPE)
    other = Grid(seen.pop("shape", SHAPE))
    good = at_points(grid, times[1:2], POINTS)
    with pytest.raises(InputError, match=text):
        Observer(grid, SPECIES, times, [good, at_points(other, points=POINTS, **seen)])


def test_observers_of_many_experiments_share_their_quantities():
    one, other = (observer_of("exp(u*v)", True) for _ in range(2))
    for a, b in zip(one.quantities, other.quantities, strict=True):
        assert a is b


def test_data_of_another_number_are_refused():
    observer = observer_of("u", True)
    with pytest.raises(
        InputError, match=f"data: got 3 values; allowed: {observer.size} values"
    ):
        layout(observer).block(np.zeros(3))
