"""Every block times every property of a block: a new block is one line in BLOCKS."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.io.vectors import VectorReader, VectorWriter
from npde_opt.nested import Prolongation
from npde_opt.parameters import (
    MANY,
    Field,
    Matrix,
    ParameterSpace,
    PerStep,
    Regions,
    Shared,
    Unknown,
)
from npde_opt.reductions import total
from npde_opt.verify import taylor_test

comm = MPI.COMM_WORLD
SHAPE = (33, 36)


def fixed(grid):
    """Some cells are known to be 2."""
    known = np.full(grid.shape, np.nan)
    known[5:9, grid.shape[1] // 2 :] = 2.0
    return known


def numbers(grid):
    x = np.arange(grid.shape[0])[:, None] * 4 // grid.shape[0]
    return np.broadcast_to(x, grid.shape).copy()


BLOCKS = {
    "field": lambda grid: Field(),
    "field known in some cells": lambda grid: Field(fixed=fixed(grid)),
    "field of channels": lambda grid: Field(3, fixed(grid)),
    "regions": lambda grid: Regions(numbers(grid), 6),
    "number": lambda grid: Shared(),
    "array": lambda grid: Shared((3, 4)),
    "array on all ranks": lambda grid: Shared((MANY, 2)),
    "rows": lambda grid: Matrix(7, 3),
    "a number per step": lambda grid: PerStep(Shared(), 4),
    "arrays per step": lambda grid: PerStep(Shared((2, 3)), 4),
    "regions per step": lambda grid: PerStep(Regions(numbers(grid)), 2),
    "fields per step": lambda grid: PerStep(Field(2, fixed(grid)), 3),
    "rows per step": lambda grid: PerStep(Matrix(5, 2), 3),
}

every_block = pytest.mark.parametrize("name", list(BLOCKS))
every_rank = pytest.mark.parallel([1, 2, 3])


def space(name, on=comm, transform="log", bounds=(0.1, 9.0), coarse=False):
    active = np.ones(SHAPE, bool)
    active[20:, 25:] = False
    edges = [np.linspace(0, 1, n + 1) ** 1.2 for n in SHAPE]
    grid = Grid(SHAPE, edges=edges, active=active, comm=on)
    grid = grid.coarsen(16) if coarse else grid
    unknowns = [
        Unknown("a", "log"),
        Unknown("k", transform, bounds, BLOCKS[name](grid)),
    ]
    return ParameterSpace(grid, unknowns)


class Natural:
    """Takes what a space writes, and keeps it whole on every rank."""

    def __init__(self, on):
        self.comm, self.arrays = on, []

    def field(self, grid, owned):
        whole = np.full(grid.shape, np.nan)
        assert owned.shape == grid.local_shape
        for place, part in self.comm.allgather((grid.local_slice, np.array(owned))):
            whole[place] = part
        self.arrays.append(whole.ravel(order="F"))


def natural(of, vec):
    """All numbers of a vector in natural order, on every rank."""
    sink = Natural(of.comm)
    of.write(vec, sink)
    found = np.concatenate(sink.arrays)
    assert np.isfinite(found).all()
    return found


def noise(of, seed):
    """A vector of both unknowns, 0 where they are not free."""
    vec = of.create_vec()
    for name, block in of.blocks.items():
        of.own(vec, name)[...] = 0.3 * block.noise(seed)
    return vec


def cotangents(of, at, seed):
    """This rank's random part of the cotangents of the coefficients, 0 in inactive cells."""
    rng, found = np.random.default_rng([seed, of.comm.rank]), {}
    for name, k in at.coefficients().items():
        found[name] = rng.standard_normal(np.shape(k))
        if np.shape(k)[-2:] == of.grid.local_shape:
            found[name] = np.where(of.grid.active, found[name], 0.0)
    return found


class Contraction:
    """J(m) = y . k(m), as an objective."""

    def __init__(self, of, y):
        self.space, self.y = of, y
        self.counters = Counted()

    def linearize(self, m):
        return ContractionAt(self, m)


class Counted:
    def snapshot(self):
        return {}


class ContractionAt:
    def __init__(self, whole, m):
        self.whole, self.space, self.y = whole, whole.space, whole.y
        self.at = self.space.at(m)
        k = self.at.coefficients()
        self.value = total(
            self.space.comm, sum(float(np.sum(k[n] * self.y[n])) for n in k)
        )

    def gradient(self):
        out = self.space.create_vec()
        self.at.pull(self.y, out)
        return out

    def hessian(self, dm, out):
        out.set(0.0)
        self.at.pull_second(self.y, dm, out)

    def destroy(self):
        pass


@every_rank
@every_block
@pytest.mark.parametrize("transform", ["identity", "log", "bounded"])
def test_values_go_round(name, transform):
    of = space(name, transform=transform)
    m = noise(of, 1)
    if transform == "identity":
        m.shift(2.0)
    again = of.from_values(of.at(m).k)
    for unknown in ("a", "k"):
        on = of.free(unknown)
        found, given = of.look(again, unknown), of.look(m, unknown)
        np.testing.assert_allclose(found[on], given[on], rtol=1e-12, atol=1e-12)
    k, given = of.at(again).coefficients(), of.at(m).coefficients()
    np.testing.assert_allclose(k["k"], given["k"], rtol=1e-12)


@every_rank
@every_block
def test_pull_is_the_transpose_of_push(name):
    of = space(name)
    at, dm = of.at(noise(of, 1)), noise(of, 2)
    y, out, dk = cotangents(of, at, 3), of.create_vec(), at.push(dm)
    at.pull(y, out)
    left = total(comm, sum(float(np.sum(dk[n] * y[n])) for n in dk))
    assert left == pytest.approx(dm.dot(out), rel=1e-12) and abs(left) > 0


@every_rank
@every_block
@pytest.mark.parametrize("transform", ["log", "bounded"])
def test_gradient_and_curvature_of_the_coefficients(name, transform):
    of = space(name, transform=transform)
    m, dm = noise(of, 1), noise(of, 2)
    orders = taylor_test(Contraction(of, cotangents(of, of.at(m), 3)), m, dm)
    assert orders.problems() == [], orders


@every_rank
@every_block
def test_the_same_on_any_number_of_ranks(name):
    """Noise, weights, bounds, counts, errors."""
    of, alone = space(name), space(name, MPI.COMM_SELF)
    for make in (
        lambda s: s.standard_normal(5),
        lambda s: s.mass(),
        lambda s: s.bounds()[0],
        lambda s: s.trial_change(noise(s, 1), "k"),
        lambda s: s.from_values({"a": 2.0, "k": 3.0}),
    ):
        np.testing.assert_array_equal(
            natural(of, make(of)), natural(alone, make(alone))
        )
    assert of.size == alone.size
    whole = of.standard_normal(5)
    assert np.count_nonzero(natural(of, whole)) == of.size
    errors = []
    for s in (of, alone):
        truth, start = s.at(noise(s, 2)).k["k"], s.at(noise(s, 3)).k["k"]
        errors.append(s.error(noise(s, 1), "k", truth, start))
        assert s.error(noise(s, 2), "k", truth, start) < 1e-14
    assert errors[0] == pytest.approx(errors[1], rel=1e-12) and errors[0] > 1e-3


@every_rank
@every_block
def test_noise_belongs_to_the_weights(name):
    """g = M^(1/2) n of independent n: g^T M^-1 g is about the number of values."""
    of = space(name)
    g, work = of.standard_normal(5), of.mass()
    work.pointwiseDivide(g, work)
    assert work.dot(g) == pytest.approx(of.size, rel=0.2)


@every_rank
@every_block
def test_files_are_read_on_any_number_of_ranks(name, tmp_path):
    path = comm.bcast(tmp_path, root=0) / "vector.bin"
    of, alone = space(name), space(name, MPI.COMM_SELF)
    sink = VectorWriter(path, comm)
    of.write(noise(of, 7), sink)
    sink.close()
    comm.Barrier()
    for s in (of, alone):
        found, source = s.create_vec(), VectorReader(path, s.comm)
        s.read(found, source)
        source.close()
        np.testing.assert_array_equal(found.getArray(), noise(s, 7).getArray())


@every_rank
@every_block
@pytest.mark.parametrize("transform", ["identity", "log"])
def test_rows_are_lifted_at_once_as_one_after_the_other(name, transform):
    fine, coarse = (
        space(name, transform=transform),
        space(name, transform=transform, coarse=True),
    )
    lift = Prolongation(coarse, fine)
    rows = np.stack([noise(coarse, seed).getArray() for seed in range(3)])
    found = np.empty((3, lift.own))
    lift.many(rows, found)
    for row, image in zip(rows, found, strict=True):
        x = coarse.create_vec()
        x.setArray(row)
        np.testing.assert_allclose(image, lift.apply(x).getArray(), atol=1e-14)
    back = np.empty(rows.shape)
    lift.many_transposed(found, back)
    for row, image in zip(found, back, strict=True):
        y = fine.create_vec()
        y.setArray(row)
        wanted = lift.apply_transpose(y).getArray()
        np.testing.assert_allclose(image, wanted, atol=1e-13)
    assert total(comm, np.abs(found).sum()) > 0
    lift.destroy()


@every_rank
@every_block
@pytest.mark.parametrize("transform", ["identity", "log"])
def test_a_finer_grid_keeps_constants_and_the_transpose_is_one(name, transform):
    fine, coarse = (
        space(name, transform=transform),
        space(name, transform=transform, coarse=True),
    )
    lift = Prolongation(coarse, fine)
    m, given = (s.from_values({"a": 3.0, "k": 2.0}) for s in (coarse, fine))
    k = fine.at(lift.start(m, given)).coefficients()["k"]
    on = fine.grid.active if np.shape(k)[-2:] == fine.grid.local_shape else ()
    np.testing.assert_allclose(k[..., on] if np.size(on) else k, 2.0, rtol=1e-12)
    x, y = noise(coarse, 1), noise(fine, 2)
    left, right = lift.apply(x).dot(y), x.dot(lift.apply_transpose(y))
    assert left == pytest.approx(right, rel=1e-12) and abs(left) > 0
    lift.destroy()


@every_rank
@every_block
def test_a_block_is_a_vector_by_itself(name):
    of = space(name)
    m = noise(of, 1)
    part = of.block_vec(m, "k")
    assert part.norm() == pytest.approx(
        np.linalg.norm(natural(of, m)[of.grid.size :]), rel=1e-12
    )
    of.zero_block(m, "k")
    assert of.block_vec(m, "k").norm() == 0
    of.add_block(m, "k", part)
    np.testing.assert_array_equal(natural(of, m), natural(of, noise(of, 1)))


@every_rank
@every_block
def test_listed_numbers_have_a_unit_each(name):
    of = space(name)
    units, u = of.units(noise(of, 1)), of.unknown("k")
    few = u.block.listed and u.block.count <= 40
    labels = [u.label(i) for i in range(u.block.count)] if few else []
    assert [label for label, _, _ in units] == labels
    if few:
        found = [natural(of, unit)[of.grid.size :] for _, unit, _ in units]
        np.testing.assert_array_equal(found, np.eye(u.block.count))


@every_rank
@every_block
def test_where_numbers_lie(name):
    """Many numbers are on all ranks, few on rank 0."""
    block = space(name).blocks["k"]
    sizes = comm.allgather(block.local_size)
    if block.count > MANY or block.large:
        assert max(sizes) < 0.75 * sum(sizes) or comm.size == 1
    else:
        assert sum(sizes) == sizes[0] == block.count


@every_rank
def test_a_number_takes_cotangents_cell_by_cell_and_as_a_number():
    of = space("number")
    at = of.at(of.from_values({"a": 1.0, "k": 2.0}))
    cells, number, block = of.create_vec(), of.create_vec(), of.blocks["k"]
    at.pull({"k": np.ones(of.grid.local_shape, order="F")}, cells)
    assert of.values(cells, "k")[0] == 2.0 * of.grid.active_size
    at.pull({"k": block.cotangent(np.float64(3.0))}, number)
    assert of.values(number, "k")[0] == 6.0 * comm.size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shared(0), r"Shared: shape: got \[0\]"),
        (lambda: Matrix(0, 3), r"Matrix: rows, columns: got \[0, 3\]"),
        (lambda: Field(0), "Field: channels: got 0"),
        (lambda: PerStep(Field(), 0), "PerStep: steps: got 0"),
    ],
)
def test_blocks_without_numbers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Regions(np.zeros((3, 4), int)), r"unknown.k.regions: got shape \(3, 4\)"),
        (Regions(np.full((8, 8), -1)), "unknown.k.regions: got -1 in an active cell"),
        (Field(fixed=np.zeros((3, 4))), r"unknown.k.fixed: got shape \(3, 4\)"),
        (PerStep(Field(fixed=np.zeros(3)), 2), r"unknown.k.fixed: got shape \(3,\)"),
    ],
)
def test_blocks_that_do_not_go_with_the_grid_are_refused(block, message):
    with pytest.raises(InputError, match=message):
        ParameterSpace(Grid((8, 8), comm=MPI.COMM_SELF), [Unknown("k", block=block)])


def test_vectors_take_norms_that_are_not_stale():
    """PETSc keeps norms until an array is taken for writing."""
    of = space("array", MPI.COMM_SELF)
    vec = of.create_vec()
    assert vec.norm() == 0
    of.own(vec, "k")[...] = 1.0
    assert vec.norm(PETSc.NormType.NORM_1) == 12
