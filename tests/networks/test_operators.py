"""Operators of layers against their assembled matrices, and their transposes."""

import numpy as np
import pytest
from mpi4py import MPI

from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.networks import Dense, Diffusion, Mixing, Place, Stencil, Transposed
from npde_opt.networks.matrices import as_vec, from_vec
from npde_opt.networks.strips import Box

COMM = MPI.COMM_WORLD
PERIODIC = {"y-": "periodic", "y+": "periodic"}


def place(shape=(7, 6), channels=2, boundaries=None):
    return Place.on(Grid(shape, boundaries=boundaries or {}, comm=COMM), channels)


OPERATORS = {
    "3x3": lambda: Stencil(place(), 3),
    "replicate": lambda: Stencil(place(), 2, (5, 3), mode="replicate"),
    "stride": lambda: Stencil(place(), 3, 3, stride=(2, 3)),
    "even kernel": lambda: Stencil(place((8, 6)), 3, 2, stride=2, padding=0),
    "replicate, stride": lambda: Stencil(
        place((9, 7)), 2, 5, stride=2, mode="replicate"
    ),
    "stride, dilation": lambda: Stencil(
        place((9, 8)), 2, (3, 2), stride=(2, 3), dilation=(3, 2)
    ),
    "stride beyond the kernel": lambda: Stencil(
        place((9, 8)), 2, 2, stride=3, padding=(1, 0)
    ),
    "stride on an axis": lambda: Stencil(
        place((7, 8)), 2, (3, 5), stride=(1, 2), dilation=(2, 1)
    ),
    "stride, wide padding": lambda: Stencil(
        place((5, 6)), 1, (5, 4), stride=2, padding=(4, 3)
    ),
    "volume, strides": lambda: Stencil(
        place((4, 3, 6)), 2, 3, stride=(2, 1, 3), mode="replicate"
    ),
    "dilation": lambda: Stencil(place(), 2, 3, dilation=2),
    "valid": lambda: Stencil(place(), 2, 4, padding=0),
    "wide padding": lambda: Stencil(place((5, 6)), 1, 3, padding=3),
    "periodic": lambda: Stencil(place(boundaries=PERIODIC), 2, (3, 5), stride=(1, 2)),
    "line": lambda: Stencil(place((9,)), 2, 5, stride=2),
    "volume": lambda: Stencil(place((4, 3, 6)), 2, (3, 3, 5), mode="replicate"),
    "many of one": lambda: Stencil(place(channels=1), 12, 3, mode="replicate"),
    "one of many": lambda: Stencil(place(channels=12), 1, (5, 3), dilation=(1, 2)),
    "line, many of one": lambda: Stencil(place((9,), 1), 6, 5),
    "volume, many of one": lambda: Stencil(place((4, 3, 6), 1), 32, 3),
    "mixing": lambda: Mixing(place(), 3),
    "diffusion": lambda: Diffusion(place()),
    "diffusion, zero outside": lambda: Diffusion(place((3, 4, 5)), "zero"),
    "diffusion, periodic": lambda: Diffusion(place(boundaries=PERIODIC)),
    "diffusion, line": lambda: Diffusion(place((9,))),
    "dense": lambda: Dense(place(), 4),
    "dense on a point": lambda: Dense(place().point(5), 4),
    # On three ranks the cell in the middle is the second one's.
    "dense behind one cell": lambda: Dense(
        Stencil(place((8,)), 3, 8, padding=0).target, 4
    ),
    "transposed": lambda: Transposed(Stencil(place((8, 6)), 3, 3, stride=2)),
}


def drawn(where, samples, seed):
    """A state that is the same on any number of ranks."""
    shape = (where.channels, samples, *where.layout.shape[::-1])
    return where.own(np.random.default_rng(seed).standard_normal(shape)).copy()


def total(value):
    return COMM.allreduce(float(value))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", OPERATORS)
def test_products_are_those_of_the_matrix(name):
    op = OPERATORS[name]()
    w = np.random.default_rng(0).standard_normal(op.shape)
    u = drawn(op.source, 2, 1)
    y = op.apply(w, u)
    assert y.shape == op.target.shape(2)
    A = op.matrix(w)
    for s in range(2):
        x, out = as_vec(op.source, u[:, s]), as_vec(op.target, y[:, s])
        product = out.duplicate()
        A.mult(x, product)
        assert np.allclose(
            from_vec(op.target, product), y[:, s], rtol=1e-13, atol=1e-13
        )
        for vec in (x, out, product):
            vec.destroy()
    A.destroy()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", OPERATORS)
def test_transposes_are_exact(name):
    op = OPERATORS[name]()
    rng = np.random.default_rng(2)
    w, dw = rng.standard_normal(op.shape), rng.standard_normal(op.shape)
    u, y = drawn(op.source, 3, 3), drawn(op.target, 3, 4)
    product = total(np.vdot(y, op.apply(w, u)))
    assert np.isclose(total(np.vdot(op.transpose(w, y), u)), product, rtol=1e-12)
    along = total(np.vdot(y, op.apply(dw, u)))
    assert np.isclose(total(np.vdot(op.weights(y, u), dw)), along, rtol=1e-12)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "name", ["3x3", "stride", "replicate, stride", "many of one", "mixing"]
)
def test_boxes_are_added_to_what_is_there(name):
    op = OPERATORS[name]()
    w, y = np.random.default_rng(0).standard_normal(op.shape), drawn(op.target, 2, 4)
    reading, found = op.back(w, y), drawn(op.source, 2, 5)
    wanted = found + op.transpose(w, y)
    for s in range(2):
        for row in range(found.shape[2]):
            box = Box(slice(s, s + 1), (slice(row, row + 1),))
            reading.product(box, found[box.index], add=True)
    assert np.allclose(found, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("name", OPERATORS)
def test_ranks_have_parts_of_one_result(name):
    op = OPERATORS[name]()
    w = np.random.default_rng(0).standard_normal(op.shape)
    y = op.apply(w, drawn(op.source, 2, 1))
    whole = np.zeros((2, op.target.size))
    whole[:, op.target.order()] = np.moveaxis(y, 1, 0).reshape(2, -1)
    whole = COMM.allreduce(whole)
    alone = serial(name, w)
    assert np.allclose(whole, alone, rtol=1e-13, atol=1e-13)


def serial(name, w):
    """The result of one rank, found on each."""
    global COMM
    world, COMM = COMM, MPI.COMM_SELF
    try:
        op = OPERATORS[name]()
        y = op.apply(w, drawn(op.source, 2, 1))
    finally:
        COMM = world
    return np.moveaxis(y, 1, 0).reshape(2, -1)


def test_single_precision_stays_single():
    op = Stencil(place(), 3)
    w = np.random.default_rng(0).standard_normal(op.shape)
    u = drawn(op.source, 2, 1).astype("f4")
    assert op.apply(w, u).dtype == np.float32
    assert op.transpose(w, op.apply(w, u)).dtype == np.float32
    assert op.weights(op.apply(w, u), u).dtype == np.float64


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Stencil(place(), 1, 9, padding=0), "kernel"),
        (lambda: Stencil(place(), 1, (3, 3, 3)), "kernel"),
        (lambda: Stencil(place(), 1, 3, stride=0), "stride"),
        (lambda: Stencil(place(), 1, 3, mode="mirror"), "padding"),
        (lambda: Stencil(place(boundaries=PERIODIC), 1, 3, stride=4), "stride"),
        (lambda: Diffusion(place(), "mirror"), "outside"),
    ],
)
def test_bad_sizes_are_told(build, told):
    with pytest.raises(InputError, match=told):
        build()
