"""phi(F(m)) = sum_e phi_e(F_e(m)) at one point m: of all experiments at once, or of some after the
other, when memory is that of some.

What is here is done by one group of ranks; an objective sums it over the groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.forward.interface import AdjointStates, Linearization, images
from npde_opt.misfits import Misfit, Scaled
from npde_opt.observations import DataBlock, Metric
from npde_opt.seen import Seen, seen

TOLD = 8
"""Experiments that a message names at most."""


class Experiments(Protocol):
    """Some of a group's experiments.

    Attributes:
        misfits: one a block of data.
        blocks: numbers of these blocks among those of all experiments.
        scale: a factor of the derivatives.
    """

    misfits: list[Misfit]
    blocks: list[int]
    scale: float

    def forward_at(self, m: PETSc.Vec) -> Linearization: ...


class DataTermAt(Protocol):
    """What an objective asks of either way. Collective over the ranks of a group."""

    @property
    def data(self) -> list[DataBlock]:
        """F(m), blocks as those of the misfits."""

    def values(self) -> list[np.ndarray]:
        """phi of each column, by block, without the scale."""

    def gradient(self) -> PETSc.Vec:
        """J^T phi'; the caller's."""

    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool) -> None:
        """Adds J^T W J dm, and without `gauss_newton` the second-order term."""

    def gram(self, along: Sequence[PETSc.Vec]) -> np.ndarray:
        """v_i^T J^T W J v_j of some directions v, W that of Gauss-Newton: by J v alone."""

    def destroy(self) -> None: ...


class AtOnce:
    """All experiments together; solves happen when they are asked for and are kept."""

    def __init__(self, of: Experiments, m: PETSc.Vec):
        self.of, self.m = of, m
        self._linearization: Linearization | None = None
        self._metrics: dict[bool, list[Metric]] = {}

    @property
    def linearization(self) -> Linearization:
        if self._linearization is None:
            self._linearization = self.of.forward_at(self.m)
        return self._linearization

    @property
    def data(self) -> list[DataBlock]:
        return self.linearization.data

    @property
    def _blocks(self) -> Iterator[tuple[Misfit, DataBlock]]:
        """The misfits and their predicted data."""
        return zip(self.of.misfits, self.data, strict=True)

    def values(self) -> list[np.ndarray]:
        return [np.asarray(misfit.values(d)) for misfit, d in self._blocks]

    @cached_property
    def adjoints(self) -> AdjointStates:
        residuals = [misfit.gradient(d) for misfit, d in self._blocks]
        if self.of.scale != 1:
            for residual in residuals:
                residual.scale(self.of.scale)
        return self.linearization.adjoint_states(residuals)

    def gradient(self) -> PETSc.Vec:
        return self.linearization.apply_adjoint((), self.adjoints)

    def metrics_at(self, gauss_newton: bool) -> list[Metric]:
        """W, one a block."""
        if gauss_newton not in self._metrics:
            found = [
                m.gauss_newton_metric(d) if gauss_newton else m.hessian_metric(d)
                for m, d in self._blocks
            ]
            if self.of.scale != 1:
                found = [Scaled(w, self.of.scale) for w in found]
            self._metrics[gauss_newton] = found
        return self._metrics[gauss_newton]

    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool) -> None:
        metrics = self.metrics_at(gauss_newton)
        self.linearization.hessian(
            dm, metrics, out, None if gauss_newton else self.adjoints
        )

    def seen(self, along: Sequence[PETSc.Vec]) -> Seen:
        """What the data see of some directions, kept."""
        return seen(images(self.linearization, along), self.metrics_at(True))

    def gram(self, along: Sequence[PETSc.Vec]) -> np.ndarray:
        kept = self.seen(along)
        found = kept.products(kept)
        return np.asarray((found + found.T) / 2)

    def destroy(self) -> None:
        if self._linearization is not None:
            self._linearization.destroy()


class PartByPart:
    """Some experiments after the other: nothing of a part is kept when the next begins.

    Value and gradient of a part are found together, as its state is known then: who asks for
    values pays for a gradient. Every product with the Hessian solves for the states again.

    Args:
        of: all of the group's experiments.
        parts: makes the parts, in the order of their columns.
    """

    def __init__(
        self, of: Experiments, parts: Callable[[], Iterator[Experiments]], m: PETSc.Vec
    ):
        self.of, self.parts, self.m = of, parts, m
        self._values: list[np.ndarray] | None = None
        self._gradient: PETSc.Vec | None = None
        self._at: AtOnce | None = None
        # Numbers of blocks among those of all experiments, to places among those of `of`.
        self._place = {b: k for k, b in enumerate(of.blocks)}

    def _each(self) -> Iterator[AtOnce]:
        """One part at a time. One at which a solve failed stays until all ranks know of it."""
        for part in self.parts():
            self._drop()
            self._at = AtOnce(part, self.m)
            yield self._at
        self._drop()

    def _drop(self) -> None:
        if self._at is not None:
            self._at.destroy()
            self._at = None

    def values(self) -> list[np.ndarray]:
        if self._values is None:
            self._values = self._evaluated()
        return self._values

    def _evaluated(self) -> list[np.ndarray]:
        """The values; leaves the gradient."""
        found: list[list[np.ndarray]] = [[np.zeros(0)] for _ in self.of.misfits]
        gradient = self._zero()
        for at in self._each():
            for b, values in zip(at.of.blocks, at.values(), strict=True):
                found[self._place[b]].append(values)
            added = at.gradient()
            gradient.axpy(1.0, added)
            added.destroy()
        self._gradient = gradient
        return [np.concatenate(values) for values in found]

    def gradient(self) -> PETSc.Vec:
        self.values()
        assert self._gradient is not None
        return self._gradient.copy()

    @cached_property
    def data(self) -> list[DataBlock]:
        found = [misfit.layout.zeros() for misfit in self.of.misfits]
        for at in self._each():
            for b, d in zip(at.of.blocks, at.data, strict=True):
                whole = found[self._place[b]]
                columns = whole.layout.columns_of(d.layout.members)
                whole.values[:, columns] = d.values
        return found

    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool) -> None:
        for at in self._each():
            at.hessian(dm, out, gauss_newton)

    def gram(self, along: Sequence[PETSc.Vec]) -> np.ndarray:
        none = np.zeros((len(along),) * 2)
        return sum((at.gram(along) for at in self._each()), none)

    def _zero(self) -> PETSc.Vec:
        out = self.m.duplicate()
        out.set(0.0)
        return out

    def destroy(self) -> None:
        self._drop()
        if self._gradient is not None:
            self._gradient.destroy()


def numbers_of(columns: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Numbers of experiments, sorted. Raises InputError where they are none."""
    given = np.asarray(columns)
    allowed = f"numbers of experiments from 0 to {count - 1}, each once"
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
        raise InputError("columns", columns, allowed)
    outside = given[(given < 0) | (given >= count)]
    if outside.size:
        raise InputError("columns", int(outside[0]), allowed)
    found, times = np.unique(given, return_counts=True)
    if (times > 1).any():
        raise InputError("columns", f"{found[times > 1][0]} twice", allowed)
    return found


def experiments(members: Sequence[int], groups: MPI.Intracomm) -> str:
    """A group's experiments, by their numbers among those of all groups, as text."""
    numbers = [str(groups.rank + k * groups.size) for k in members[:TOLD]]
    more = len(members) - TOLD
    rest = f" and {more} more" if more > 0 else ""
    return f"experiment{'s' if len(members) > 1 else ''} {', '.join(numbers)}{rest}"
