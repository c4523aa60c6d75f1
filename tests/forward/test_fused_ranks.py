"""Fused steps on several ranks: many in one call, while their ghosts are under way."""

import numpy as np
import pytest
from alike import same
from forward.test_evolution_derivatives import objective
from forward.test_fused import HOLES, PERIODIC, SIDES, STRETCHED
from forward.test_fused_many import Calls, one_by_one, problem
from mpi4py import MPI

from npde_opt import traffic
from npde_opt.errors import SolverError
from npde_opt.forward import Storage, halo, stability
from npde_opt.forward.fused_base import FusedBase
from npde_opt.forward.halo import parts
from npde_opt.parameters import Shared, Unknown
from npde_opt.terms import Advection, Diffusion, Kinetics, NonlinearDiffusion

RANKS = pytest.mark.parallel([2, 3, 4])
EXPLODES = {"u": "F*u**2", "v": "0.2*F*cos(u) - k*v"}


@pytest.mark.parametrize(
    "ranks",
    [
        [(None, None), (1, 2)],
        [(0, None), (None, None)],
        [(None, 1), (0, None)],
        [(0, 1), (0, None), (3, 4)],
        [(0, 1), (2, 3), (None, None)],
        [(0, 1)],
    ],
)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_each_cell_is_in_one_part(ranks, n):
    sizes = [n, 4, 3][: len(ranks)]
    count = np.zeros(sizes, int)
    found = parts(sizes, ranks)
    for part in found:
        count[tuple(slice(*ends) for ends in part)] += 1
    assert (count == 1).all()
    inside = np.zeros([s + 2 for s in sizes], bool)
    inside[tuple(slice(first + 1, last + 1) for first, last in found[0])] = True
    for axis, beside in enumerate(ranks[:-1]):
        for rank, ghost in zip(beside, (0, -1), strict=True):
            if rank is not None and inside.any():
                layer = np.moveaxis(inside, axis, 0)[1 if ghost == 0 else -2]
                assert not layer.any()


KINDS = {
    "numbers": {"numbers": True, "shape": (21, 30), "end": 0.01},
    "sides": {"sides": SIDES, "shape": (21, 30), "end": 0.005},
    "periodic": {"sides": PERIODIC, "end": 0.02},
    "mask": {"sides": SIDES, "edges": STRETCHED, "active": HOLES, "end": 0.01},
    "heun": {"numbers": True, "scheme": "heun", "shape": (33, 17), "end": 0.006},
    "box": {"numbers": True, "shape": (5, 6, 8), "sides": {"z-": "dirichlet"}},
    "line": {"numbers": True, "shape": (11,)},
}


@RANKS
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_one_rank(kind):
    """To rounding: where a row of cells begins decides which of them are added in vectors."""

    def last(comm):
        J, m, _ = problem(comm=comm, **KINDS[kind])
        (u,) = J.linearize(m).linearization.final
        return u, J.space.grid

    u, grid = last(MPI.COMM_WORLD)
    whole, _ = last(MPI.COMM_SELF)
    expected = whole[(slice(None), *grid.local_slice)]
    np.testing.assert_allclose(u, expected, rtol=1e-14, atol=1e-15)


@RANKS
@pytest.mark.parametrize("forward_only", [False, True])
@pytest.mark.parametrize("scheme", ["explicit-euler", "heun"])
def test_ranks_that_went_too_far_come_back(scheme, forward_only, monkeypatch):
    """A state that moves little at first and much later, in some cells: which ranks do not all
    see."""

    def terms(grid):
        two = Diffusion(grid, "Du", "u"), Diffusion(grid, "Dv", "v")
        return [*two, Kinetics(grid, ("u", "v"), EXPLODES)]

    def run():
        storage = Storage(forward_only=forward_only)
        given = {"numbers": True, "terms": terms, "scheme": scheme, "storage": storage}
        J, _, _ = problem(**given)
        values = {"Du": 1e-3, "Dv": 2e-3, "F": 24.0, "k": 10.0}
        at = J.linearize(J.space.from_values(values)).linearization
        watch = at.guard.watch
        seen = [*(d.values for d in at.data), *at.final]
        return seen, watch.looks, watch.start, watch.step

    # Looks at rates that are due would keep the ranks together.
    monkeypatch.setattr(stability, "LOOKS", 1)
    back = list[int]()
    forth = FusedBase._forth

    def counted(stepper, p, rows, dts, *given):
        done = forth(stepper, p, rows, dts, *given)
        back.append(dts.size - done)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(FusedBase, "_forth", counted)
        found, *watched = run()
    assert max(back) > 0
    one_by_one(monkeypatch)
    expected, *alone = run()
    assert watched == alone
    assert same(found, expected)


def carried(grid):
    flow = Advection(grid, ("q*y", 0.2))
    return [
        Diffusion(grid, "D", "u"),
        flow,
        Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"}),
    ]


def porous(grid):
    moving = NonlinearDiffusion(grid, ("u",), "u", "D*u**2", floor=1e-6)
    return [moving, Kinetics(grid, ("u",), {"u": "r*u*(1 - u)"})]


@RANKS
@pytest.mark.parametrize("scheme", ["explicit-euler", "heun"])
@pytest.mark.parametrize("terms", [carried, porous])
def test_advection_and_moving_diffusion(terms, scheme, monkeypatch):
    names = ["q", "r"] if terms is carried else ["r"]

    def run():
        J, m, dm = objective(
            terms,
            [Unknown("D", "log"), *(Unknown(n, block=Shared()) for n in names)],
            scheme,
            steps=24,
            end=0.01,
            power=1.0,
            sides={"x-": "dirichlet"},
        )
        at = J.linearize(m)
        found = [at.gradient().getArray().copy(), *at.linearization.final]
        product = J.create_vec()
        at.hessian(dm, product)
        return [*found, product.getArray().copy()]

    calls = Calls(monkeypatch)
    found = run()
    assert calls.back and max(calls.back) > 1
    one_by_one(monkeypatch)
    assert same(found, run())


@RANKS
def test_without_mpi_s_own_calls_steps_go_one_by_one(monkeypatch):
    monkeypatch.setattr(halo, "calls", lambda: None)
    calls = Calls(monkeypatch)
    J, m, _ = problem(numbers=True)
    J.linearize(m).gradient()
    assert not calls.forth and not calls.back


@RANKS
def test_messages_are_counted(monkeypatch):
    """For PETSc's log, those of a gradient's way back: of 8-byte numbers of two species, from both
    ends of each axis that is cut. That of the first step back is Python's."""
    sent = []
    J, m, _ = problem(numbers=True)
    at = J.linearize(m)
    assert at.value > 0
    monkeypatch.setattr(traffic, "many", lambda given, taken: sent.append(given))
    calls = Calls(monkeypatch)
    at.gradient()
    grid = J.space.grid
    shape, layers = grid.local_shape, list[int]()
    for d, n in enumerate(shape):
        ranks = grid.layout.beside(d, False) if n < grid.shape[d] else ()
        layers += [2 * 8 * grid.layout.local_size // n for r in ranks if r is not None]
    steps = sum(calls.back) - len(calls.back)
    assert sum(n for n, _ in sent) == steps * len(layers)
    assert sum(size for _, size in sent) == steps * sum(layers)


@RANKS
def test_messages_of_agreements_are_counted(monkeypatch):
    """One at the end where nothing is looked at."""
    sent = []
    J, m, _ = problem(numbers=True)
    stepper = J.linearize(m).linearization.batches[0].stepper
    store, n = stepper.store, J.space.grid.comm.size
    u = store.state(np.zeros((2, *J.space.grid.local_shape), order="F"))
    rows, _ = store.rows(u, 4)
    monkeypatch.setattr(traffic, "many", lambda given, taken: sent.append(given))
    assert stepper._forth(store.filled(u), rows, np.full(4, 1e-9)) == 4
    ((number, _),) = sent
    messages = len(store.halo(store.around(u))._messages)
    assert number == 3 * messages + int(np.ceil(np.log2(n)))


@RANKS
def test_one_rank_s_blow_up_ends_all_with_one_error():
    J, _, _ = problem(numbers=True, evolution={"bound": 5.0})
    m = J.space.from_values({"Du": 0.01, "Dv": 0.01, "F": 0.1, "k": -100.0})
    with pytest.raises(SolverError, match="the state grew to") as refused:
        J.linearize(m).linearization  # noqa: B018
    assert len(set(MPI.COMM_WORLD.allgather(str(refused.value)))) == 1
