"""Variable projection: the layer behind a forward map is solved for at every point,

    J(k) = min over W, b of  1/2 sum_s |W^T h_s + b - y_s|^2 + ridge/2 |W|^2  + R(k),   h_s = F_s(k)

With the residuals r_s = W^T h_s + b - y_s at that minimum, and H, r, y of all samples as rows,

    gradient    J^T (r W^T) + R'                         exact, as dJ/dW = dJ/db = 0
    Hessian     d(r W^T) = dr W^T + r dW^T,   dr = dH W + H dW + db                        (exact)
                (Hc^T Hc + ridge) dW = -(Hc^T dH W + dH^T r),   Hc = H - mean h
    Kaufman     without dH^T r and r dW^T and F'': that of Gauss-Newton, dr is dH W without what
                H explains of it                         (Golub, Pereyra 1973; Kaufman 1975)

Samples are the experiments of an objective, over groups of ranks and cells over the ranks of each.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Never, Self

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.forward.interface import ForwardMap
from npde_opt.misfits import Misfit
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.observations import DataBlock, DataLayout, Metric
from npde_opt.observations.data import ALL
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.solution import Solution
from npde_opt.regularizers.interface import Regularizer
from npde_opt.stages import stage


class Behind(Misfit):
    """phi = 1/2 |W^T h + b - y|^2 of each column h, at one W and b.

    Args:
        targets: y (columns, k), on every rank.
        layout: of the features h.
    """

    def __init__(self, targets: np.ndarray, layout: DataLayout):
        super().__init__(layout, np.full(layout.columns, targets.shape[1]))
        self.targets = targets
        self.W = np.zeros((layout.size, targets.shape[1]))
        self.b = np.zeros(targets.shape[1])

    def at(self, W: np.ndarray, b: np.ndarray) -> Self:
        """With another layer."""
        found = copy.copy(self)
        found.W, found.b = W, b
        return found

    def over(self, columns: Sequence[int] | np.ndarray) -> Self:
        part = super().over(columns)
        part.targets = self.targets[list(columns)]
        return part

    def own(self, W: np.ndarray) -> np.ndarray:
        """Rows of W of the features here."""
        rows: np.ndarray = W[self.layout.order]
        return rows

    def summed(self, rows: np.ndarray) -> np.ndarray:
        """Over the ranks that share the features."""
        return reductions.total(self.layout.comm, rows)

    def residuals(self, d: DataBlock) -> np.ndarray:
        """r (k, columns), on every rank."""
        found = self.summed(self.own(self.W).T @ d.values)
        found += self.b[:, None] - self.targets.T
        return found

    def values(self, d: DataBlock) -> np.ndarray:
        squares: np.ndarray = (self.residuals(d) ** 2).sum(axis=0)
        return squares / 2

    def chi_squared(self, d: DataBlock) -> float:
        return 2 * self.value(d) / max(self.count, 1)

    def gradient(self, d: DataBlock) -> DataBlock:
        return d.like(self.own(self.W) @ self.residuals(d))

    def hessian_metric(self, d: DataBlock) -> Metric:
        k = len(self.b)
        return Moved(self, Change(np.zeros_like(self.W), np.zeros(k)), d, exact=False)

    def gauss_newton_metric(self, d: DataBlock) -> Metric:
        return self.hessian_metric(d)


@dataclass(frozen=True)
class Change:
    """Of the layer: dW (n, k) and db (k,)."""

    W: np.ndarray
    b: np.ndarray


class Moved:
    """dh := d(r W^T) where the layer moves by a change, without the r dW^T unless `exact`."""

    def __init__(self, misfit: Behind, change: Change, d: DataBlock, exact: bool):
        self.W, self.of = misfit.own(misfit.W), misfit
        self.dW = misfit.own(change.W)
        self.by_layer = self.dW.T @ d.values
        self.db = change.b[:, None]
        self.r = misfit.residuals(d) if exact else None

    def apply(self, d: DataBlock, columns: slice = ALL) -> None:
        own = self.W.T @ d.values[:, columns] + self.by_layer[:, columns]
        found = self.W @ (self.of.summed(own) + self.db)
        if self.r is not None:
            found += self.dW @ self.r[:, columns]
        d.values[:, columns] = found


class Projected(Objective):
    """The objective of a forward map behind which a layer is solved for.

    Args:
        forward: has the features h of each sample as a column, one block of them; hidden layers of
            a network, for example.
        targets: y (samples of this group, k), on every rank of it.
        ridge: acts on W, not on b.
        regularizers: R, by unknown's name.

    Raises:
        InputError: for other shapes, targets that are not finite, and a ridge below 0.
    """

    def __init__(
        self,
        forward: ForwardMap,
        targets: np.ndarray,
        ridge: float = 0.0,
        regularizers: Mapping[str, Regularizer] | None = None,
        ensemble: Ensemble | None = None,
    ):
        ensemble = ensemble or Ensemble.whole(forward.grid.comm)
        with ensemble.together():
            _check(forward, targets, ridge)
            misfits = [
                Behind(np.asarray(targets, float), layout) for layout in forward.layouts
            ]
        super().__init__(forward, misfits, regularizers or {}, ensemble)
        self.ridge, self.targets = ridge, targets.shape[1]
        sizes = [layout.size for layout in forward.layouts]
        self.features = int(reductions.largest(self.everyone, max(sizes, default=0)))

    def over(self, columns: Sequence[int] | np.ndarray, scale: bool = True) -> Never:
        """There is none: the layer of some samples is another one.

        Raises:
            InputError: always.
        """
        told = "some of the samples, behind which a layer is solved for"
        raise InputError("columns", told, "all of them: a method without minibatches")

    def linearize(self, m: PETSc.Vec) -> ProjectedAt:
        return ProjectedAt(self, m)


def _check(forward: ForwardMap, targets: np.ndarray, ridge: float) -> None:
    """Raises InputError where they do not fit."""
    if len(forward.layouts) > 1:
        raise InputError(
            "features", f"{len(forward.layouts)} blocks", "one, of all samples"
        )
    samples = len(forward.experiments)
    shape = np.shape(targets)
    if (
        len(shape) != 2
        or shape[0] != samples
        or not shape[1]
        or not np.isfinite(targets).all()
    ):
        wanted = f"{samples} rows of finite numbers, one a sample"
        raise InputError("targets", f"shape {shape}", wanted)
    if not 0 <= ridge < np.inf:
        raise InputError("ridge", ridge, "a finite number >= 0")


@dataclass(frozen=True)
class Solved:
    """The layer at one point.

    Args:
        H, r: features (rows, n) and residuals (rows, k) of the samples that this rank has taken.
    """

    solution: Solution
    H: np.ndarray
    r: np.ndarray
    ridge: float
    world: MPI.Intracomm

    @cached_property
    def _means(self) -> tuple[float, np.ndarray]:
        """The number of samples of all ranks, and their mean features (n,). Collective."""
        sums = reductions.total(self.world, np.append(self.H.sum(axis=0), len(self.H)))
        return float(sums[-1]), sums[:-1] / sums[-1]

    def moved(self, dH: np.ndarray, exact: bool) -> Change:
        """How the layer follows changes of the features (rows, n), without the part of dH^T r
        unless `exact`. Collective over all ranks."""
        count, mean = self._means
        dr = dH @ self.solution.W
        B = self.H.T @ dr + (dH.T @ self.r if exact else 0.0)
        sums = reductions.total(self.world, np.concatenate([B, dr.sum(axis=0)[None]]))
        B, total = sums[:-1] - np.outer(mean, sums[-1]), sums[-1]
        dW: np.ndarray | None = None
        with collective(self.world):
            if self.solution.problem is not None:
                dW = -self._inverse(B)
        dW = self.world.bcast(dW)
        assert dW is not None
        return Change(dW, -total / count - mean @ dW)

    def _inverse(self, B: np.ndarray) -> np.ndarray:
        """(Hc^T Hc + ridge)^+ B, on rank 0."""
        assert self.solution.problem is not None
        _, s, V = self.solution.problem.factors
        kept = (s > self.solution.cut) | (self.ridge > 0)
        inverse = np.divide(1, s**2 + self.ridge, out=np.zeros_like(s), where=kept)
        found: np.ndarray = V @ (inverse[:, None] * (V.T @ B))
        return found


class ProjectedAt(ObjectiveAt):
    """J at one point, with its layer."""

    objective: Projected

    def __init__(self, objective: Projected, m: PETSc.Vec):
        # Its own misfits: those with the layer of this point.
        super().__init__(copy.copy(objective), m)

    @property
    def solution(self) -> Solution:
        """W (n, k) and b (k,), as they were found, on every rank. Collective."""
        return self._solved.solution

    @cached_property
    def _solved(self) -> Solved:
        objective = self.objective
        fold = Fold(objective.features, objective.targets, True, objective.everyone)
        with objective.together():
            H = self._own_rows(self.data)
            y = [misfit.targets[self._own] for misfit in self._behind]
            targets = np.concatenate(y) if y else np.zeros((0, objective.targets))
            fold.add(H, targets)
        solution = fold.solve(ridge=objective.ridge)
        W, b = solution.W, solution.intercept
        objective.misfits = [misfit.at(W, b) for misfit in self._behind]
        return Solved(
            solution, H, H @ W + b - targets, objective.ridge, objective.everyone
        )

    @property
    def _behind(self) -> list[Behind]:
        return [
            misfit for misfit in self.objective.misfits if isinstance(misfit, Behind)
        ]

    @property
    def _own(self) -> slice:
        """The samples of the group that this rank folds."""
        space = self.objective.ensemble.space
        return slice(space.rank, None, space.size)

    def _own_rows(self, blocks: Sequence[DataBlock]) -> np.ndarray:
        """Features of those samples (rows, n). Collective over the group."""
        rows = [block.gather().T[self._own] for block in blocks]
        return np.concatenate(rows) if rows else np.zeros((0, self.objective.features))

    def _values(self) -> tuple[float, float]:
        if self._value is None and not self._defined():
            self._value = (math.inf, math.inf)
        if self._value is None:
            W = self._solved.solution.W
            misfit, penalty = super()._values()
            self._value = (
                misfit + self.objective.ridge / 2 * float((W**2).sum()),
                penalty,
            )
        return self._value

    def _defined(self) -> bool:
        """Whether parameters and features are in range."""
        objective, finite = self.objective, True
        with objective.together():
            if objective.space.at(self.m).finite():
                finite = all(np.isfinite(block.values).all() for block in self.data)
            else:
                finite = False
        return reductions.everywhere(objective.everyone, finite)

    def gradient(self) -> PETSc.Vec:
        _ = self._solved
        return super().gradient()

    def hessian(
        self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool = False
    ) -> None:
        """out = H dm, exact or Kaufman's."""
        self._data_hessian(dm, out, gauss_newton)
        with self.objective.together():
            self.add_parts(out, lambda r, p, x, part: r.hessian(p, x, part), dm)

    def information(self, dm: PETSc.Vec) -> float:
        """dm^T K dm, what the data tell along dm while the layer follows."""
        out = dm.duplicate()
        self._data_hessian(dm, out, True)
        found = float(out.dot(dm))
        out.destroy()
        return found

    def _data_hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool) -> None:
        objective, solved, at = self.objective, self._solved, self.linearization
        out.set(0)
        with objective.together(), stage("hessian"):
            images = at.apply(dm)
            dH = self._own_rows(images)
        change = solved.moved(dH, not gauss_newton)
        with objective.together(), stage("hessian"):
            pairs = zip(self._behind, at.data, strict=True)
            metrics = [
                Moved(misfit, change, d, not gauss_newton) for misfit, d in pairs
            ]
            if gauss_newton:
                for metric, image in zip(metrics, images, strict=True):
                    metric.apply(image)
                found = at.apply_adjoint(images)
                out.axpy(1.0, found)
                found.destroy()
            else:
                at.hessian(dm, metrics, out, self._at_once.adjoints)
        objective.ensemble.sum_vec(out)
