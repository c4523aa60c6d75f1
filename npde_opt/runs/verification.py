"""`--verify`: derivatives of an objective, each part by itself, so that none hides behind a larger
one.

Tested are, in random directions: every unknown, with the whole objective and with its data's part
alone; every regularizer alone; every misfit alone; and <J dm, d> = <dm, J^T d> for every unknown.
The point is a little off the start, where the gradients of regularizers around it are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions, verify
from npde_opt.cases import Case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import SolverError
from npde_opt.forward.interface import Counters
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import tight
from npde_opt.misfits import Misfit
from npde_opt.objective import Objective
from npde_opt.observations import DataBlock, Metric
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.regularizers.interface import Regularizer

DOT_LIMIT = 1e-7
"""Relative difference of dot products up to which an adjoint is right."""

OFF = 1e-2
"""How far the point of a test is from the start, in units of a direction."""


@dataclass(frozen=True)
class Check:
    """One line: what was tested, what was found, and what is wrong with it (nothing where it is
    right)."""

    name: str
    found: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.found}" + (
            f" - WRONG: {', '.join(self.problems)}" if self.problems else ""
        )


def verify_case(
    case: Case, grid: Grid, ensemble: Ensemble, world: MPI.Intracomm
) -> int:
    """Tests a case near its starting point; prints on rank 0. Returns the exit code. Collective."""
    case.weight_override = 1.0
    with tight():
        case.prepare(ensemble)
        objective, m = case.build(grid, ensemble)
        failed = []
        for check in check_derivatives(objective.whole or objective, m):
            failed += [check] if check.problems else []
            if world.rank == 0:
                print(check, flush=True)
    if world.rank == 0:
        print(
            f"verification failed: {'; '.join(c.name for c in failed)}"
            if failed
            else "verified",
            flush=True,
        )
    return 1 if failed else 0


def check_derivatives(
    objective: Objective, m: PETSc.Vec, seed: int = 1
) -> Iterator[Check]:
    """Tests of all derivatives of an objective near m. Collective; the same on all ranks."""
    with tight():
        point = _off(objective, m, seed)
        alone = Objective(objective.forward, objective.misfits, {}, objective.ensemble)
        for u in objective.space.unknowns:
            dm = direction(objective, point, u, seed)
            yield _taylor(f"unknown {u.name}", objective, point, dm)
            if objective.regularizers:
                yield _taylor(f"unknown {u.name}, data alone", alone, point, dm)
            yield _dot_product(objective, point, dm, u.name, seed)
            dm.destroy()
        for name, regularizer in objective.regularizers.items():
            yield _regularizer(objective.space, name, regularizer, point, seed)
        if objective.data_count:
            yield _misfits(objective, point, seed)
        point.destroy()


def direction(objective: Objective, m: PETSc.Vec, u: Unknown, seed: int) -> PETSc.Vec:
    """Random values of one unknown, 0 for the others, the same on any number of ranks: of size 1
    for the transforms log and bounded, else of the size of the values (where all are 0: of a size
    that changes the objective by about itself)."""
    space = objective.space
    dm = space.create_vec()
    own, values = space.own(dm, u.name), np.abs(space.look(m, u.name))
    own[...] = space.blocks[u.name].noise(seed)
    if not u.transform.exponential:
        block = space.block_vec(m, u.name)
        largest = block.norm(PETSc.NormType.NORM_INFINITY)
        block.destroy()
        if largest > 0:
            own *= np.maximum(values, 1e-3 * largest)
        else:
            dm.scale(_unit(objective, m, dm))
    return dm


def _unit(objective: Objective, m: PETSc.Vec, dm: PETSc.Vec) -> float:
    """a for which J changes by about itself along a dm, as far as its derivatives tell."""
    at, h = objective.linearize(m), objective.create_vec()
    size, slope = abs(at.value), abs(at.gradient().dot(dm))
    at.hessian(dm, h)
    curvature = abs(h.dot(dm))
    h.destroy()
    at.destroy()
    found = [
        a
        for a in (
            size / slope if slope else 0.0,
            np.sqrt(2 * size / curvature) if curvature else 0.0,
        )
        if a > 0
    ]
    return float(objective.ensemble.across.bcast(min(found, default=1.0), root=0))


def _off(objective: Objective, m: PETSc.Vec, seed: int) -> PETSc.Vec:
    """m moved a little at random, or m where the objective is not defined there. The start is
    solved at first: what is wrong with the input is said there."""
    at = objective.linearize(m)
    try:
        _ = at.value
    finally:
        at.destroy()
    point = m.copy()
    for u in objective.space.unknowns:
        dm = direction(objective, m, u, seed + 1000)
        point.axpy(OFF, dm)
        dm.destroy()
    at = objective.linearize(point)
    try:
        defined = bool(np.isfinite(at.value))
    except SolverError:
        defined = False
    finally:
        at.destroy()
    if not defined:
        m.copy(point)
    return point


def _taylor(name: str, objective: verify.Checked, m: PETSc.Vec, dm: PETSc.Vec) -> Check:
    orders = verify.taylor_test(objective, m, dm)
    if not orders.depends:
        return Check(
            name,
            f"nothing depends on {name.removeprefix('unknown ')}",
            ("nothing to verify",),
        )
    rows = ", ".join(
        f"{name} {row.relative:.1e}" if name else f"{row.relative:.1e}"
        for name, row in orders.rows.items()
    )
    found = (
        f"orders {_text(orders.first)} with the gradient (2 expected), {_text(orders.second)} "
        "with the Hessian (3), "
        f"{_text(orders.gradient)} of the gradient (2); differs from central differences: gradient "
        f"{orders.slope.relative:.1e} (known to "
        f"{orders.slope.uncertainty / max(orders.slope.size, 1e-300):.1e}), Hessian {rows}"
    )
    return Check(name, found, tuple(orders.problems()))


def _text(order: float) -> str:
    return "exact" if order == np.inf else f"{order:.2f}"


def _dot_product(
    objective: Objective, m: PETSc.Vec, dm: PETSc.Vec, name: str, seed: int
) -> Check:
    at = objective.linearize(m)
    lin = at.linearization
    images = lin.apply(dm)
    size = np.sqrt(objective.ensemble.sum(sum(v.dot(v) for v in images)))
    for b, block in enumerate(images):
        # Random, with a part along J dm so that the product is not 0 by chance.
        noise = block.layout.noise([seed, b, objective.ensemble.across.rank])
        outputs = max(block.layout.size, 1)
        block.axpy(size / np.sqrt(outputs), noise)
    own = verify.dot_product_test(lin, dm, images) if size > 0 and images else 0.0
    difference = max(
        objective.ensemble.across.allgather(own),
        key=lambda x: np.inf if np.isnan(x) else x,
    )
    at.destroy()
    title = f"adjoint for {name}"
    if not size > 0:
        return Check(
            title,
            f"no datum depends on {name}" if size == 0 else "not finite",
            ("nothing to verify",),
        )
    expected = f"(below {DOT_LIMIT:g} expected)"
    found = f"<J dm, d> and <dm, J^T d> differ by {difference:.1e} relative {expected}"
    return Check(title, found, () if difference < DOT_LIMIT else ("adjoint",))


class _Part:
    """A regularizer or a misfit as an objective of its own argument."""

    def __init__(self) -> None:
        self.counters = Counters()


class _RegularizerAlone(_Part):
    def __init__(self, regularizer: Regularizer):
        super().__init__()
        self.regularizer = regularizer

    def linearize(self, p: PETSc.Vec) -> _RegularizerAt:
        return _RegularizerAt(self.regularizer, p)


class _RegularizerAt:
    def __init__(self, regularizer: Regularizer, p: PETSc.Vec):
        self.regularizer, self.p, self._made = regularizer, p.copy(), list[PETSc.Vec]()

    @property
    def value(self) -> float:
        return float(self.regularizer.value(self.p))

    def gradient(self) -> PETSc.Vec:
        out = self.p.duplicate()
        self.regularizer.gradient(self.p, out)
        self._made.append(out)
        return out

    def hessian(self, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self.regularizer.hessian(self.p, dp, out)

    def destroy(self) -> None:
        for vec in (self.p, *self._made):
            vec.destroy()


def _regularizer(
    space: ParameterSpace, name: str, regularizer: Regularizer, m: PETSc.Vec, seed: int
) -> Check:
    """At a point away from its reference."""
    p = space.block_vec(m, name)
    dp = p.duplicate()
    block = space.blocks[name]
    for vec, number, scale in ((dp, seed, 1.0), (p, seed + 1, 0.1)):
        own = block.view(vec.getArray())
        own += scale * block.noise(number)
    check = _taylor(f"regularizer of {name}", _RegularizerAlone(regularizer), p, dp)
    p.destroy()
    dp.destroy()
    return check


def vector_of(block: DataBlock) -> PETSc.Vec:
    """The values of a block as a Vec, which the caller destroys."""
    own = block.values.size
    vec = PETSc.Vec().createMPI((own, None), comm=block.layout.comm)
    vec.setArray(block.values.ravel())
    return vec


class MisfitAlone(_Part):
    """A misfit as an objective of the data, which are Vecs as `vector_of` makes them."""

    def __init__(self, misfit: Misfit):
        super().__init__()
        self.misfit = misfit

    def linearize(self, d: PETSc.Vec) -> _MisfitAt:
        return _MisfitAt(self.misfit, self.block(d))

    def block(self, d: PETSc.Vec) -> DataBlock:
        """A copy."""
        layout = self.misfit.layout
        values = np.array(d.getArray(readonly=True)).reshape(-1, layout.columns)
        return DataBlock(layout, values)


class _MisfitAt:
    def __init__(self, misfit: Misfit, d: DataBlock):
        self.misfit, self.d, self._made = misfit, d, list[PETSc.Vec]()

    @property
    def value(self) -> float:
        return float(self.misfit.value(self.d))

    def gradient(self) -> PETSc.Vec:
        self._made.append(vector_of(self.misfit.gradient(self.d)))
        return self._made[-1]

    def hessian(self, d: PETSc.Vec, out: PETSc.Vec) -> None:
        change = MisfitAlone(self.misfit).block(d)
        self.misfit.hessian_metric(self.d).apply(change)
        out.setArray(change.values.ravel())

    def destroy(self) -> None:
        for vec in self._made:
            vec.destroy()


def _gauss_newton(misfit: Misfit, data: DataBlock, change: DataBlock) -> list[str]:
    """What is wrong with the weights of Gauss-Newton, by which decrements and intervals go: they
    are not negative, and those of the Hessian where the data are fitted exactly (of a misfit that
    tells its `observed` values)."""
    found = []
    if change.dot(_weighted(misfit.gauss_newton_metric(data), change)) < 0:
        found.append("negative Gauss-Newton weights")
    if not hasattr(misfit, "observed"):
        return found
    fitted = data.like(np.array(misfit.observed))
    off = _weighted(misfit.gauss_newton_metric(fitted), change)
    exact = _weighted(misfit.hessian_metric(fitted), change)
    off.axpy(-1.0, exact)
    if not off.norm() <= verify.LIMIT * exact.norm():
        found.append(
            "Gauss-Newton weights, other than the Hessian's where the data are fitted exactly"
        )
    return found


def _weighted(metric: Metric, d: DataBlock) -> DataBlock:
    """W d."""
    out = d.copy()
    metric.apply(out)
    return out


def _misfits(objective: Objective, m: PETSc.Vec, seed: int) -> Check:
    """The misfits of all blocks of data in data space; tells the worst."""
    at = objective.linearize(m)
    own: list[tuple[int, str, tuple[str, ...]]] = []
    experiments = 0
    for b, (misfit, data) in enumerate(
        zip(objective.misfits, at.linearization.data, strict=True)
    ):
        if not misfit.count:
            continue
        experiments += int((misfit.counts > 0).sum())
        change = data.layout.noise([seed, b])
        largest = reductions.largest(
            data.layout.comm, np.abs(data.values).max(axis=0, initial=0.0)
        )
        change.values[...] *= np.maximum(np.abs(data.values), 1e-3 * largest)
        check = _misfit(misfit, data, change)
        problems = (*check.problems, *_gauss_newton(misfit, data, change))
        own.append((len(problems), check.found, problems))
    at.destroy()
    every = [x for part in objective.ensemble.across.allgather(own) for x in part]
    if not every:
        return Check("misfit", "no experiment has data", ("nothing to verify",))
    _, found, problems = max(every)
    count = int(objective.ensemble.sum(experiments))
    return Check(
        f"misfit of {count} experiment{'s' if count > 1 else ''}", found, problems
    )


def _misfit(misfit: Misfit, data: DataBlock, change: DataBlock) -> Check:
    """At predicted data, along a change of them."""
    at, along = vector_of(data), vector_of(change)
    check = _taylor("", MisfitAlone(misfit), at, along)
    at.destroy()
    along.destroy()
    return check
