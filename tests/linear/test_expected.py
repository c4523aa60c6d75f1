"""Messages of the cycle and of a solve on planes as they are counted, and as their model has
them."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt import reductions, traffic
from npde_opt.grids import Grid
from npde_opt.grids.cuts import as_petsc_cuts
from npde_opt.grids.layout import Layout
from npde_opt.linear import LinearSolver
from npde_opt.linear.planes import expected, gathering
from npde_opt.linear.planes.tables import CYCLES, RESIDUALS
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion


class Counter:
    """What is sent and taken while it counts."""

    def __init__(self, monkeypatch):
        self.messages = self.bytes = 0
        for name in ("sent", "taken"):
            monkeypatch.setattr(traffic, name, self.add)
        monkeypatch.setattr(traffic, "many", self.add_all)

    def add(self, values):
        self.messages += 1
        self.bytes += values.nbytes

    def add_all(self, *pairs):
        for messages, amount in pairs:
            self.messages += messages
            self.bytes += amount

    def taken(self):
        found = self.messages, self.bytes
        self.messages = self.bytes = 0
        return found


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    ("shape", "spread"), [((64, 48), 200), ((64, 48), 4096), ((16, 16, 20), 150)]
)
def test_messages_of_a_solve_are_those_of_its_cycles(shape, spread, monkeypatch):
    monkeypatch.setattr(gathering, "SPREAD", spread)
    grid = Grid(shape, edges=[np.arange(n + 1.0) for n in shape])
    matrix = StencilMatrix(grid)
    planes = matrix.zeroed()
    k = np.asfortranarray(np.ones(grid.local_shape))
    Diffusion(grid, "k").at({"k": k}).add_planes(planes)
    planes[matrix.offsets[0]] += grid.volume
    matrix.refresh()
    solver = LinearSolver(matrix, grid, "counttest_", "planes", checked=10**6)
    solver.update()
    own, b, x = solver._gradients, grid.create_active(), grid.create_active()
    b.setArray(np.random.default_rng(grid.comm.rank).random(b.getLocalSize()))
    solver.solve(b, x)
    counter = Counter(monkeypatch)
    solver.solve(b, x)
    found = counter.taken()
    halved = expected.axes_halved(shape)
    messages, amount = expected.of_rank(grid.layout, (False,) * grid.dim, halved)
    halo, numbers = own.cycle.box.traffic()
    cycles, fresh = own._whole.counts[[CYCLES, RESIDUALS]]
    assert cycles > solver.ksp.getIterationNumber() > 1
    assert found == (
        cycles * messages + fresh * halo,
        cycles * amount + fresh * 8 * numbers,
    )
    most = expected.most(grid.layout.counts, (False,) * grid.dim, halved)
    every = reductions.largest(grid.comm, np.array((messages, amount), float))
    assert most == tuple(every) and messages > 0
    solver.destroy()
    matrix.destroy()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    "shape", [(37, 52), (400, 30), (12, 13, 45), (8, 8, 200), (50,)]
)
def test_boxes_of_ranks_that_are_not_there(shape):
    assert Grid(shape).layout.counts == as_petsc_cuts(shape, MPI.COMM_WORLD.size)


def test_boxes_inside_have_the_most_messages():
    """Of many ranks not each is looked at."""
    shape, walls = (640, 640), (False, False)
    halved, counts = expected.axes_halved(shape), as_petsc_cuts(shape, 100)
    every = [expected.of_rank(Layout(counts, r), walls, halved) for r in range(100)]
    most = expected.most(counts, walls, halved)
    assert most == tuple(max(part) for part in zip(*every, strict=True))
