"""One matrix an axis on every channel: against the whole matrix, its transpose, ranks."""

import numpy as np
import pytest
from mpi4py import MPI
from nets import check_derivatives, drawn, figures, part, total

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.networks import Applied, Network, Place, Separable, Stencil, Step, Tanh
from npde_opt.networks.matrices import as_vec

WORLD = MPI.COMM_WORLD


def coarsening(comm, channels=2):
    """From 6 x 4 cells to 4 x 3."""
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal(shape) for shape in ((4, 6), (3, 4))]
    source = Place.on(Grid((6, 4), comm=comm), channels)
    return Separable(source, factors, Place.on(Grid((4, 3), comm=comm)))


@pytest.mark.parallel([1, 2])
def test_it_is_the_product_along_each_axis():
    linear = coarsening(MPI.COMM_SELF)
    u = drawn(linear.source, 3, 1)
    along_x, along_y = linear.factors
    wanted = np.einsum("ax,by,csyx->csba", along_x, along_y, u)
    np.testing.assert_allclose(linear.apply(u), wanted, rtol=1e-12, atol=1e-12)
    shared = coarsening(WORLD)
    own = shared.apply(drawn(shared.source, 3, 1))
    np.testing.assert_allclose(own, shared.target.own(wanted), rtol=1e-12, atol=1e-12)


@pytest.mark.parallel([1, 2])
def test_the_transpose_and_the_matrix_are_its():
    linear = coarsening(WORLD)
    u, y = drawn(linear.source, 1, 1), drawn(linear.target, 1, 2)
    found = linear.apply(u)
    back = total((linear.transpose(y) * u).sum())
    assert total((found * y).sum()) == pytest.approx(back, rel=1e-12)
    matrix, image = linear.matrix(), as_vec(linear.target, found)
    there = image.duplicate()
    matrix.mult(as_vec(linear.source, u), there)
    there.axpy(-1.0, image)
    assert there.norm() < 1e-12 * image.norm()


def network(comm):
    grid = Grid((6, 4), comm=comm)
    W = Stencil(Place.on(grid), 2)
    linear = coarsening(comm)
    return Network(grid, [Step(W.source, part(W, "W"), Tanh()), Applied(linear)])


@pytest.mark.parallel([1, 2])
def test_derivatives_pass_it():
    check_derivatives(network(WORLD))
    np.testing.assert_allclose(
        figures(network(WORLD)), figures(network(MPI.COMM_SELF)), rtol=1e-11
    )


def test_matrices_of_other_sizes_are_told():
    with pytest.raises(InputError, match="factors"):
        Separable(Place.on(Grid((6, 4), comm=MPI.COMM_SELF)), [np.eye(6), np.eye(5)])
