"""`--verify`: Taylor and dot-product tests of a case's derivatives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import verify
from npde_opt.cases import Case, EvolutionCase
from npde_opt.ensemble import Ensemble
from npde_opt.grids import Grid

DOT_LIMIT = 1e-7


@contextlib.contextmanager
def tight_solves() -> Iterator[None]:
    """State solves tight enough to tell derivatives from solver errors, where the user did not say how tight."""
    options, ours = PETSc.Options(), not PETSc.Options().hasName("state_ksp_rtol")
    if ours:
        options.setValue("state_ksp_rtol", "1e-12")
    yield
    if ours:
        options.delValue("state_ksp_rtol")


def verify_case(case: Case | EvolutionCase, grid: Grid, ensemble: Ensemble, world: MPI.Intracomm) -> int:
    """Tests at the starting point, in a random direction; prints on rank 0. Returns the exit code. Collective."""
    with tight_solves():
        case.prepare(ensemble)
        return _verify(case, grid, ensemble, world)


def _verify(case: Case | EvolutionCase, grid: Grid, ensemble: Ensemble, world: MPI.Intracomm) -> int:
    case.weight_override = 1.0
    objective, m = case.build(grid, ensemble)
    dm = objective.create_vec()
    noise = grid.standard_normal(1)
    for u in objective.space.unknowns:
        if u.is_field:
            objective.space.field(dm, u.name)[...] = grid.view(noise) * objective.space.free(u.name)
        elif grid.comm.rank == 0:
            dm.getArray()[objective.space.offset(u.name):][: u.count] = 1.0
    orders = verify.taylor_test(objective, m, dm, verify.WIDE)
    at = objective.linearize(m)
    data = [misfit.gradient(d) for misfit, d in zip(objective.misfits, at.linearization.data, strict=True)]
    difference = world.allreduce(verify.dot_product_test(at.linearization, dm, data), op=MPI.MAX)
    if world.rank == 0:
        print(f"Taylor remainders: order {orders.first:.2f} with the gradient (2 expected), "
              f"{orders.second:.2f} with the Hessian (3 expected)\n"
              f"dot products: <J dm, d> and <dm, J^T d> differ by {difference:.1e} relative (below {DOT_LIMIT:g} expected)",
              flush=True)
    failed = [name for name, good in (("gradient", orders.first > 1.8), ("Hessian", orders.second > 2.7),
                                      ("adjoint", difference < DOT_LIMIT)) if not good]
    if world.rank == 0:
        print("verification failed: " + ", ".join(failed) if failed else "verified", flush=True)
    return 1 if failed else 0
