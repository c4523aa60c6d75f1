"""R(p) of small arrays of parameters (scalars, histories, region constants):

    alpha/2 sum_i ((p_i - q_i) / s)^2  +  beta/2 sum_i (p_{i+1} - p_i)^2 / (t_{i+1} - t_i)

a normal prior around q with standard deviation s, and the smoothness of a history between its
times, which a case gives in units of their mean distance (see cases/histories.py): without times
t_{i+1} - t_i = 1. The Hessian is tridiagonal: products and solves take O(n), of which each rank
does what its range of the numbers needs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.packages import scipy
from npde_opt.parameters import Line
from npde_opt.parameters.draws import child, normal

SINGULAR = 1e-15
"""Weight of the prior, relative to the largest diagonal entry, that is as good as none."""


class SmallPrior:
    """The prior of `count` parameters that lie as those of `Shared` and `Regions` do; a Regularizer
    for `Objective`.

    Args:
        reference: q, a number or (count,).
        times: t (count,), increasing; None: 0, 1, ...

    Raises:
        InputError: for weights that ask for nothing, and times that do not increase.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        count: int,
        weight: float = 1.0,
        reference: np.ndarray | float = 0.0,
        deviation: float = 1.0,
        smoothness: float = 0.0,
        times: Sequence[float] | np.ndarray | None = None,
    ):
        asked = weight >= 0 and smoothness >= 0 and weight + smoothness > 0
        if not (asked and deviation > 0):
            given = (weight, smoothness, deviation)
            allowed = (
                "weights >= 0 of which one is positive, a positive standard deviation"
            )
            raise InputError("prior", given, allowed)
        t = np.arange(count, dtype=float) if times is None else np.asarray(times, float)
        if t.size != count or np.any(np.diff(t) <= 0):
            raise InputError(
                "prior.times", f"{t.size} values", f"{count} increasing times"
            )
        self.comm, line = comm, Line(comm, count)
        whole = np.broadcast_to(np.asarray(reference, float), count)
        self.reference = np.array(whole[line.first : line.last])
        self.pull = weight / deviation**2
        self.chain = Chain(line, smoothness / np.diff(t))
        self.inverse: Singular | Definite
        if self.pull <= SINGULAR * self.chain.stiffest:
            self.inverse = Singular(self.chain)
        else:
            self.inverse = Definite(self.chain, self.pull)

    def value(self, p: PETSc.Vec) -> float:
        values = p.getArray(readonly=True)
        e, jumps = values - self.reference, self.chain.jumps(values)
        own = 0.5 * self.pull * e @ e + 0.5 * (self.chain.upward * jumps) @ jumps
        return reductions.total(self.comm, float(own))

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        values = p.getArray(readonly=True)
        stiff = self.chain.product(values)
        out.setArray(self.pull * (values - self.reference) + stiff)

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        values = dp.getArray(readonly=True)
        out.setArray(self.pull * values + self.chain.product(values))

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = R''^-1 r, of the least norm where constants cost nothing."""
        out.setArray(self.inverse.solve(r.getArray(readonly=True)))

    @property
    def improper(self) -> str:
        if isinstance(self.inverse, Singular):
            return "only differences of its values cost anything: its weight is 0"
        return ""

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        self.hessian(p, dp, out)

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        line, own = self.chain.line, np.sqrt(self.pull)
        values, jumps = (
            normal(child(seed, k), line.size, line.first, line.last) for k in range(2)
        )
        out.setArray(own * values + self.chain.noise(jumps))

    def variance(self, p: PETSc.Vec) -> np.ndarray | None:
        return None

    def destroy(self) -> None:
        """Nothing to destroy."""


class Chain:
    """S = G^T diag(w) G with the differences (G p)_i = p_{i+1} - p_i: a rank has a range of rows.

    Args:
        line: which range. weights: w (count - 1,), on every rank.
    """

    def __init__(self, line: Line, weights: np.ndarray):
        self.line, self.comm = line, line.comm
        self.stiffest = 2 * float(np.max(weights, initial=0.0))
        # Of the own numbers upwards, of those before and after: 0 at the ends.
        bordered = np.concatenate([[0.0], weights, [0.0]])
        own = bordered[line.first : line.last + 1]
        self.before, self.after = own[:-1], own[1:]
        self.upward = weights[line.first : line.last]
        self.filled = [rank for rank, n in enumerate(line.counts) if n]

    def neighbours(self, own: np.ndarray) -> tuple[float, float]:
        """The numbers before and after the own ones, 0 where there is none. Collective."""
        if len(self.filled) == 1:
            return 0.0, 0.0
        ends = self.comm.allgather((own[0], own[-1]) if own.size else (0.0, 0.0))
        rank, last = self.comm.rank, self.comm.size - 1
        return ends[rank - 1][1] if rank > 0 else 0.0, ends[rank + 1][
            0
        ] if rank < last else 0.0

    def jumps(self, own: np.ndarray) -> np.ndarray:
        """p_{i+1} - p_i of the own i that have a next number. Collective."""
        _, following = self.neighbours(own)
        return np.diff(own, append=following)[: self.upward.size]

    def product(self, own: np.ndarray) -> np.ndarray:
        """S p. Collective."""
        previous, following = self.neighbours(own)
        steps = np.diff(own, prepend=previous, append=following)
        return self.before * steps[:-1] - self.after * steps[1:] if own.size else own

    def noise(self, drawn: np.ndarray) -> np.ndarray:
        """G^T diag(w)^1/2 z, whose covariance is S, with the own numbers z. Collective."""
        jumps = np.zeros(drawn.size)
        jumps[: self.upward.size] = np.sqrt(self.upward) * drawn[: self.upward.size]
        previous, _ = self.neighbours(jumps)
        return -np.diff(jumps, prepend=previous)

    def total(self, x: float) -> float:
        """Of all ranks. Collective."""
        return reductions.total(self.comm, x)

    def sums(self, own: np.ndarray) -> np.ndarray:
        """Own sums of all numbers up to each. Collective."""
        parts = self.comm.allgather(float(own.sum()))
        return np.cumsum(own) + sum(parts[: self.comm.rank])


class Singular:
    """S^+: what S does not see, the mean, is 0."""

    def __init__(self, chain: Chain):
        self.chain = chain

    def _centred(self, own: np.ndarray) -> np.ndarray:
        mean = self.chain.total(float(own.sum())) / self.chain.line.size
        return own - mean

    def solve(self, r: np.ndarray) -> np.ndarray:
        """From -w_i (p_{i+1} - p_i) = r_0 + ... + r_i. Collective."""
        chain = self.chain
        flow = chain.sums(self._centred(r))[: chain.upward.size]
        jumps = np.zeros(r.size)
        positive = chain.upward > 0
        jumps[: flow.size][positive] = -flow[positive] / chain.upward[positive]
        # The jump upwards from a number is that of the next one from it.
        return self._centred(chain.sums(jumps) - jumps)


class Definite:
    """(pull + S)^-1: every rank solves with its own rows, and 2 x 2 equations a rank say what the
    numbers at the ends of the ranges are."""

    def __init__(self, chain: Chain, pull: float):
        self.chain, self.comm = chain, chain.comm
        banded = np.zeros((2, chain.before.size))
        banded[0, 1:] = -chain.before[1:]
        banded[1] = pull + chain.before + chain.after
        self._factor = scipy.linalg.cholesky_banded(banded) if banded.size else None
        self._ends = self._reduced() if len(chain.filled) > 1 else None

    def _local(self, r: np.ndarray) -> np.ndarray:
        if self._factor is None:
            return np.array(r)
        return scipy.linalg.cho_solve_banded((self._factor, False), r)

    def _reduced(self) -> np.ndarray:
        """The equations of the first and last number of each range, and own answers to its
        neighbours."""
        size = self.chain.before.size
        self._answers = np.zeros((2, size))
        if size:
            for answer, end in zip(self._answers, (0, -1), strict=True):
                answer[end] = (self.chain.before if end == 0 else self.chain.after)[end]
                answer[:] = self._local(answer)
        matrix = np.eye(2 * self.comm.size)
        for rank, (down, up) in enumerate(
            self.comm.allgather(self._at_ends(self._answers))
        ):
            rows = slice(2 * rank, 2 * rank + 2)
            if rank > 0:
                matrix[rows, 2 * rank - 1] -= down
            if rank < self.comm.size - 1:
                matrix[rows, 2 * rank + 2] -= up
        return matrix

    def _at_ends(self, rows: np.ndarray) -> np.ndarray:
        """The first and last entries of each."""
        return rows[:, [0, -1]] if rows.shape[1] else np.zeros((len(rows), 2))

    def solve(self, r: np.ndarray) -> np.ndarray:
        """Collective."""
        own = self._local(r)
        if self._ends is None:
            return own
        ends = np.concatenate(self.comm.allgather(self._at_ends(own[None])[0]))
        ends = np.pad(np.linalg.solve(self._ends, ends), 1)
        previous, following = ends[2 * self.comm.rank], ends[2 * self.comm.rank + 3]
        return own + previous * self._answers[0] + following * self._answers[1]
