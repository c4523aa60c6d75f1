"""Points drawn uniformly over the places where several grids of one box are all active."""

import numpy as np
import pytest
from fits import case_of
from mpi4py import MPI

from npde_opt.cases.random_points import active, random_points
from npde_opt.errors import InputError
from npde_opt.grids.cuts import even
from npde_opt.grids.scattered import Mask

EDGES = [np.linspace(0, 2, 5), np.linspace(0, 1, 3)]


def drawn(count, masks, seed=0):
    return random_points(np.random.default_rng(seed), count, EDGES, masks, "random")


def test_points_fill_the_box():
    points = drawn(4000, [])
    assert points.shape == (4000, 2)
    np.testing.assert_allclose(points.mean(axis=0), [1.0, 0.5], atol=0.03)
    assert points.min() >= 0 and np.all(points.max(axis=0) <= [2, 1])


def test_points_are_active_on_all_grids():
    half, other = np.zeros((4, 2), bool), np.zeros((2, 1), bool)
    half[1:] = other[:1] = True
    masks = [
        (EDGES, Mask.alone(half)),
        ([EDGES[0][::2], EDGES[1][::2]], Mask.alone(other)),
    ]
    points = drawn(500, masks)
    assert active(masks, points).all()
    assert points[:, 0].min() >= 0.5 and points[:, 0].max() <= 1.0


def test_where_few_places_are_active_they_are_found_cell_by_cell():
    edges = [np.linspace(0, 1, 1001)] * 2
    mask = np.zeros((1000, 1000), bool)
    mask[700, 300] = True
    mask = Mask.alone(mask)
    points = random_points(
        np.random.default_rng(0), 50, edges, [(edges, mask)], "random"
    )
    assert active([(edges, mask)], points).all()
    np.testing.assert_allclose(points.mean(axis=0), [0.7005, 0.3005], atol=3e-4)


def test_without_an_active_place_there_are_none():
    with pytest.raises(
        InputError, match="random: got 3; allowed: a domain with places"
    ):
        drawn(3, [(EDGES, Mask.alone(np.zeros((4, 2), bool)))])


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("few", [False, True])
def test_points_are_the_same_where_each_rank_has_a_part_of_the_masks(few):
    comm, edges = MPI.COMM_WORLD, [np.linspace(0, 1, 401), np.linspace(0, 1, 301)]
    whole = np.zeros((400, 300), bool)
    whole[[70, 71, 390], [30, 31, 299]] = True
    whole[:, :150] |= not few
    other = whole[::2, ::2] | whole[1::2, ::2] | whole[::2, 1::2] | whole[1::2, 1::2]
    both = [(edges, whole), ([e[::2] for e in edges], other)]
    alone = [(e, Mask.alone(m)) for e, m in both]
    parts = []
    for e, m in both:
        layout = even(m.shape, comm)
        own = np.asfortranarray(m[layout.box])
        parts.append((e, Mask(comm, layout, own).counted()))
    found, wanted = (
        random_points(np.random.default_rng(1), 90, edges, masks, "random", on)
        for masks, on in ((parts, comm), (alone, MPI.COMM_SELF))
    )
    assert len(found) == 90 // comm.size
    found = np.concatenate(comm.allgather(found))
    assert active(alone, found).all()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-15)


DISC = """
[grid]
shape = [36, 34]
active = { expression = "((x-0.5)**2 + (y-0.5)**2 < 0.2)*(1.0 - 8.0*(x-0.5)**2*(y > 0.6))" }
keep = "largest"
[equation]
terms = [{ diffusion = "D" }, { ground = [0.5, 0.5], conductance = 3.0 }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = { expression = "exp(sin(6*x)*y)" }
[[observation]]
random = 3000
"""


@pytest.mark.parallel([1, 2])
def test_random_points_are_active_on_the_grid_of_the_data_too(tmp_path):
    case = case_of(tmp_path, DISC)
    domain, points = case.domain, case.observations[0].points
    masks = [
        (edges, domain.active(edges, MPI.COMM_SELF))
        for edges in (domain.edges, domain.data_edges())
    ]
    assert len(points) == 3000 and active(masks, points).all()
    everywhere = np.random.default_rng(0).random((500, 2))
    assert not any(active([m], everywhere).all() for m in masks)
    together = MPI.COMM_WORLD.allgather(points)
    assert all(np.array_equal(points, other) for other in together)


def test_measured_data_need_no_other_grid(tmp_path):
    measured = f"{DISC}data = {{ file = 'd.npy' }}\nsigma = 1.0\n"
    assert len(case_of(tmp_path, measured).observations[0].points) == 3000
