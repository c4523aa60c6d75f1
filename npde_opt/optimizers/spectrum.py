"""A low-rank part of the Hessian learnt on a coarse grid, M = R + sum_i (R v_i)(R v_i)^T, as
preconditioner on finer ones:

    M^-1 = R^-1 - V (I + S)^-1 V^T,   S = V^T R V.

On the coarse grid the sum is the Nystroem approximation Y G^-1 Y^T of the data's part H - R of the
Hessian, with Y = (H - R) T, G = T^T Y and T the leading Ritz vectors in the span of CG's directions
p: it is exact on T and nowhere above H - R, so no eigenvalue of M^-1 H falls below 1, and V = R^-1
Y costs no solve beyond CG's own (compare Frangella, Tropp, Udell 2023). The data's part is smooth,
so that prolonged V serve on finer grids; they stay on the coarse one, where they cost little
memory, and S is formed anew for each finer R (`fit`). Whether they serve is measured there.

R^-1 is an iterative solve: along V, M^-1 is kept at LEFT of it, which leaves its error no room to
make M^-1 indefinite. Where the preconditioner of a regularization inverts something else than its
Hessian R, as that of total variation does, M^-1 may be indefinite all the same: then V is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Record
from npde_opt.optimizers.conjugate_gradients import Direction, dots, steihaug
from npde_opt.optimizers.interface import Objective, ObjectiveAt

AT_ONCE = 1 << 17
"""Values a rank of vectors on the grid in use up to which they are lifted together: a few arrays of
so many are in memory then, or of one vector where that has more. Where all vectors have no more,
they are kept on that grid: two products with them take less time than the lifts."""
LEAST = 0.5
DEPENDENT = 1e-8
LEFT = 1e-4
MISMATCH = 3.0
"""The factor within which a product agrees with M. The span of V has one direction more than T, on
which M is exact: along it H was 3 to 4 times M, the product up to 1.9 times, where CG with all of V
took half the steps that it took with half of V."""

RTOL = 1e-10
Action = Callable[[PETSc.Vec, PETSc.Vec], None]


class Hessian(Protocol):
    """H = R + the data's part at one point, and R."""

    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool) -> None: ...
    def regularization_hessian(self, dm: PETSc.Vec, out: PETSc.Vec) -> None: ...
    def regularization_products(self, rows: np.ndarray, found: np.ndarray) -> None:
        """R x of all rows x (n, own values) into rows of `found`."""


class Lift(Protocol):
    """Prolongation of parameters from one grid to the next finer one, and its transpose; the caller
    destroys the Vec.

    own: number of values of this rank on the finer grid.
    """

    @property
    def own(self) -> int: ...
    def apply(self, coarse: PETSc.Vec) -> PETSc.Vec: ...
    def apply_transpose(self, fine: PETSc.Vec) -> PETSc.Vec: ...
    def many(self, rows: np.ndarray, found: np.ndarray) -> None:
        """`apply` of every row (n, own values) into a row of `found`."""

    def many_transposed(self, rows: np.ndarray, found: np.ndarray) -> None:
        """`apply_transpose` of every row (n, own values) into a row of `found`."""


class Spectrum:
    """The vectors v on a coarse grid, the lifts from there to the grid in use, and (I + S)^-1,
    which `fit` forms.

    Owns the vectors. Before `fit`, and where it found that the vectors do not serve, M is R.
    """

    def __init__(
        self,
        vectors: Sequence[PETSc.Vec],
        lifts: Sequence[Lift] = (),
        core: np.ndarray | None = None,
    ):
        self.vectors, self.lifts, self.core = list(vectors), tuple(lifts), core
        self.used, self.fitted = self.vectors, core is not None
        self._prolonged: np.ndarray | None = None

    def refine(self, r: PETSc.Vec, z: PETSc.Vec) -> float:
        """z = M^-1 r from z = R^-1 r; what r^T z has lost by it. Collective."""
        if self.core is None or not self.used:
            return 0.0
        V = self._on_grid(r)
        if V is not None:
            overlaps = reductions.total(_comm(r), V @ r.getArray(readonly=True))
            weights = self.core @ overlaps
            own = z.getArray()
            own -= weights @ V
            return float(overlaps @ weights)
        restricted = self._restrict(r)
        overlaps = np.array(dots(restricted, self.used))
        weights = self.core @ overlaps
        restricted.set(0.0)
        restricted.maxpy(list(-weights), self.used)
        correction = self._prolong(restricted)
        z.axpy(1.0, correction)
        correction.destroy()
        return float(overlaps @ weights)

    def _on_grid(self, like: PETSc.Vec) -> np.ndarray | None:
        """The vectors in use on the grid in use, (vectors, own values), where they are kept
        there."""
        if not self._keeps(like):
            return None
        if self._prolonged is None:
            vectors = stacked(self.used)
            self._prolonged = _Between(self.lifts, vectors).lifted(vectors)
        return self._prolonged

    def _keeps(self, like: PETSc.Vec) -> bool:
        """Whether the vectors are kept on the grid in use."""
        return are_few(len(self.vectors), like)

    def drop(self) -> None:
        """M is R from now on."""
        self.used, self.core = [], None

    def lifted(self, lift: Lift) -> Spectrum:
        """The same vectors for the next finer grid, to be fitted there."""
        return Spectrum(self.vectors, (*self.lifts, lift))

    def fit(self, at: Hessian, gauss_newton: bool) -> None:
        """Forms S for the R at this point, and keeps the vectors that serve the Hessian H there:
        all, or the half or quarter of the largest S_ii.

        The test is a product with t = sum_i +-v_i / S_ii, to which all v contribute alike: t^T H t
        is t^T M t within a factor of MISMATCH. Collective.
        """
        self.fitted = True
        if not self.vectors:
            return
        S = self._energies(at)
        order = np.argsort(-np.diag(S), kind="stable")
        for count in (n for n in (len(S), len(S) // 2, len(S) // 4) if n):
            some = np.sort(order[:count])
            part = S[np.ix_(some, some)]
            self._use(some, core(part))
            if 1 / MISMATCH <= self._quotient(at, gauss_newton, part) <= MISMATCH:
                return
        self.drop()

    def _energies(self, at: Hessian) -> np.ndarray:
        """V^T R V, V being all vectors, some of which are lifted at a time."""
        vectors, comm = stacked(self.vectors), _comm(self.vectors[0])
        count, size = (
            len(vectors),
            self.lifts[-1].own if self.lifts else vectors.shape[1],
        )
        most = AT_ONCE * comm.size // int(reductions.total(comm, size))
        some = min(max(most, 1), count)
        between, images = _Between(self.lifts, vectors[:some]), np.empty((some, size))
        S = np.empty((count, count))
        for first in range(0, count, some):
            part = slice(first, first + some)
            rows = between.lifted(vectors[part])
            found = images[: len(rows)]
            at.regularization_products(rows, found)
            if most >= count:
                self._prolonged = rows
                S[part] = found @ rows.T
            else:
                S[part] = between.restricted(found) @ vectors.T
        return reductions.total(comm, S)

    def _use(self, numbers: Sequence[int] | np.ndarray, matrix: np.ndarray) -> None:
        self.used, self.core = [self.vectors[i] for i in numbers], matrix
        rows, every = self._prolonged, len(self.vectors)
        whole = rows is not None and len(rows) == every
        self._prolonged = rows[numbers] if rows is not None and whole else None

    @property
    def state(self) -> Record:
        """What `fit` found, as numbers."""
        numbers = [
            i for i, v in enumerate(self.vectors) if any(v is u for u in self.used)
        ]
        return {
            "fitted": self.fitted,
            "numbers": numbers,
            "core": None if self.core is None else self.core.tolist(),
        }

    def restore(self, state: Record) -> None:
        """Sets what `state` gave."""
        self.fitted, self.used, self.core = bool(state["fitted"]), [], None
        if state["core"] is not None:
            self._use(state["numbers"], np.array(state["core"]))

    def _quotient(self, at: Hessian, gauss_newton: bool, S: np.ndarray) -> float:
        """t^T H t / t^T M t."""
        weights = (-1.0) ** np.arange(len(S)) / np.diag(S)
        combined = self.used[0].duplicate()
        combined.set(0.0)
        combined.maxpy(list(weights), self.used)
        t = self._prolong(combined)
        product = t.duplicate()
        at.hessian(t, product, gauss_newton)
        found = t.dot(product) / float(
            weights @ S @ weights + np.square(S @ weights).sum()
        )
        t.destroy()
        product.destroy()
        return found

    def _prolong(self, vec: PETSc.Vec) -> PETSc.Vec:
        for lift in self.lifts:
            vec, coarse = lift.apply(vec), vec
            coarse.destroy()
        return vec

    def _restrict(self, vec: PETSc.Vec) -> PETSc.Vec:
        if not self.lifts:
            return vec.copy()
        *others, last = self.lifts
        found = last.apply_transpose(vec)
        for lift in reversed(others):
            found, fine = lift.apply_transpose(found), found
            fine.destroy()
        return found

    def destroy(self) -> None:
        for v in self.vectors:
            v.destroy()
        self.vectors, self.used = [], []


class _Between:
    """Arrays on the grids between the one where vectors were learnt and the one in use, which are
    used again and again: new memory takes as long as what is done in it.

    Args:
        like: vectors (n, own values), of which no more are lifted at a time.
    """

    def __init__(self, lifts: Sequence[Lift], like: np.ndarray):
        self._lifts, self._coarsest = lifts, np.empty(like.shape)
        self._finer = [np.empty((len(like), lift.own)) for lift in lifts]

    def lifted(self, rows: np.ndarray) -> np.ndarray:
        """Vectors (n, own values) on the grid in use; valid until the next call of a method."""
        for lift, finer in zip(self._lifts, self._finer, strict=True):
            found = finer[: len(rows)]
            lift.many(rows, found)
            rows = found
        return rows

    def restricted(self, rows: np.ndarray) -> np.ndarray:
        """The transpose of `lifted`."""
        coarser = [self._coarsest, *self._finer[:-1]]
        for lift, coarse in zip(self._lifts[::-1], coarser[::-1], strict=True):
            found = coarse[: len(rows)]
            lift.many_transposed(rows, found)
            rows = found
        return rows


def are_few(count: int, like: PETSc.Vec) -> bool:
    """Whether so many vectors are kept, or taken together, as rows of one array."""
    return bool(count * like.getSize() <= AT_ONCE * like.getComm().getSize())


def _comm(vec: PETSc.Vec) -> MPI.Comm:
    return vec.getComm().tompi4py()


def stacked(vectors: Sequence[PETSc.Vec]) -> np.ndarray:
    """Own values of vectors, (vectors, values)."""
    return np.array([v.getArray(readonly=True) for v in vectors])


def core(S: np.ndarray) -> np.ndarray:
    """(I + S)^-1 in the eigenvectors of S, but (1 - LEFT) S^-1 where an eigenvalue is so large that
    less than LEFT were left."""
    sizes, E = _eigenpairs(S)
    weights = np.minimum(
        1 / (1 + np.maximum(sizes, 0)), (1 - LEFT) / np.maximum(sizes, LEAST)
    )
    return (E * weights) @ E.T


def _eigenpairs(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (A + A^T) / 2; raises ValueError where a number is not finite."""
    values, vectors = np.linalg.eigh(np.asarray_chkfinite(A + A.T) / 2)
    return values, vectors


def learn(
    objective: Objective, m: PETSc.Vec, noise: PETSc.Vec, room: int, gauss_newton: bool
) -> Spectrum:
    """The spectrum of the Hessian at m from at most `room` products with it, by CG for a right-hand
    side from `noise` (any vector with parts in all directions). Collective."""
    at = objective.linearize(m)
    kept: list[Direction] = []
    b, x = noise.duplicate(), noise.duplicate()

    def data_part(p: PETSc.Vec, out: PETSc.Vec) -> None:
        at.hessian(p, out, gauss_newton)
        at.regularization_hessian(p, b)
        out.axpy(-1.0, b)

    at.precondition(noise, x)
    right = noise.duplicate()
    data_part(x, right)
    steihaug(
        lambda p, out: at.hessian(p, out, gauss_newton),
        at.precondition,
        right,
        x,
        lambda norm: RTOL,
        room,
        kept,
        solved=True,
    )
    found = _nystroem(at, kept, noise)
    for owned in (b, x, right, *kept):
        owned.destroy()
    at.destroy()
    return found


def _nystroem(
    at: ObjectiveAt, directions: Sequence[Direction], noise: PETSc.Vec
) -> Spectrum:
    """V from CG's directions, for which H p and R^-1 H p are known; v^T noise > 0, as rounding
    decides on the signs of eigenvectors, and the test of `fit` depends on them."""
    if not directions:
        return Spectrum([])
    images = []
    for direction in directions:
        assert direction.solved is not None
        image = direction.solved.copy()
        image.axpy(-1.0, direction.p)
        images.append(image)
    forms = _forms_at_once if are_few(len(images), noise) else _forms
    R, G, S = forms(at, directions, images)
    vectors = []
    B = factor(R, G)
    B *= np.where(np.array(dots(noise, images)) @ B < 0, -1.0, 1.0)
    for column in B.T:
        v = noise.duplicate()
        v.set(0.0)
        v.maxpy(list(column), images)
        vectors.append(v)
    for owned in images:
        owned.destroy()
    return Spectrum(vectors, (), core(B.T @ S @ B))


def _forms(
    at: ObjectiveAt, directions: Sequence[Direction], images: Sequence[PETSc.Vec]
) -> np.ndarray:
    """T^T R T, T^T Y and (R^-1 Y)^T Y, (3, n, n), of T the directions p and `images` R^-1 Y."""
    tests, n = [d.p for d in directions], len(directions)
    found = np.empty((3, n, n))
    data, product = tests[0].duplicate(), tests[0].duplicate()
    for j, direction in enumerate(directions):
        at.regularization_hessian(direction.p, product)
        data.waxpy(-1.0, product, direction.hp)
        columns = dots(product, tests), dots(data, tests), dots(data, images)
        found[:, :, j] = columns
    data.destroy()
    product.destroy()
    return found


def _forms_at_once(
    at: ObjectiveAt, directions: Sequence[Direction], images: Sequence[PETSc.Vec]
) -> np.ndarray:
    """The same of few vectors."""
    tests, solved = stacked([d.p for d in directions]), stacked(images)
    products = np.empty(tests.shape)
    at.regularization_products(tests, products)
    data = stacked([d.hp for d in directions]) - products
    own = np.stack([tests @ products.T, tests @ data.T, solved @ data.T])
    return reductions.total(_comm(directions[0].p), own)


def factor(R: np.ndarray, G: np.ndarray) -> np.ndarray:
    """B with Y G^-1 Y^T = (Y B)(Y B)^T on the leading Ritz vectors, from R = T^T R T and G = T^T
    Y."""
    scale = 1 / np.sqrt(np.diag(R))
    size, Q = _eigenpairs(R * np.outer(scale, scale))
    good = size > DEPENDENT * size[-1]
    Q = scale[:, None] * Q[:, good] / np.sqrt(size[good])
    ritz, E = _eigenpairs(Q.T @ G @ Q)
    leading = ritz > LEAST
    return (Q @ E)[:, leading] / np.sqrt(ritz[leading])
