"""Directions that the data tell of, from a coarser grid: they are smooth, and a Rayleigh-Ritz on
the fine grid makes them its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt.objective import Objective
from npde_opt.posterior.laplace import Laplace
from npde_opt.posterior.settings import PosteriorSettings

TIGHTER = 1 / 3
"""Of the tolerance: a pair near the cut that is missing there would be missing on the fine grid."""
WIDER = 0.8
"""Of the cut: pairs just below it on the coarse grid may lie above it on the fine one."""
RESOLVED = 0.1
"""Directions a coarse value at most, where the grid resolves them all."""
FEWEST = 4000
"""Values of the coarse grid at least."""


class Lift(Protocol):
    """Prolongation of parameters from one grid to the next finer one, and its transpose; the caller
    destroys the Vec."""

    def apply(self, coarse: PETSc.Vec) -> PETSc.Vec: ...
    def apply_transpose(self, fine: PETSc.Vec) -> PETSc.Vec: ...


def directions(
    objective: Objective,
    m: PETSc.Vec,
    given: PETSc.Vec,
    lifts: Sequence[Lift],
    settings: PosteriorSettings,
) -> np.ndarray | None:
    """Own rows (local, any) on the fine grid; None where the coarse one does not resolve them.
    Collective.

    Args:
        objective: on the coarse grid. given: parameters there, of what is known.
        m: the point on the fine grid.
        lifts: from the coarse grid to the fine one.
    """
    space = objective.space
    if space.size < FEWEST:
        return None
    there = _restricted(m, given, lifts)
    at = objective.linearize(there)
    # More directions than the grid resolves would be thrown away.
    resolvable = int(RESOLVED * space.size)
    own = replace(
        settings,
        cut=WIDER * settings.cut,
        rtol=TIGHTER * settings.rtol,
        most=min(settings.most, resolvable + 1),
    )
    laplace = Laplace(at, own)
    count = laplace.vectors.shape[1]
    resolved = laplace.pairs.complete and count <= resolvable
    size = m.getLocalSize() if resolved and count else 0
    columns = np.empty((size, count), order="F")
    vec = space.create_vec()
    for j in range(count if resolved else 0):
        vec.setArray(laplace.vectors[:, j])
        fine = _lifted(vec, lifts)
        columns[:, j] = fine.getArray(readonly=True)
        fine.destroy()
    for owned in (vec, there, at):
        owned.destroy()
    return columns if resolved and count else None


def _lifted(vec: PETSc.Vec, lifts: Sequence[Lift]) -> PETSc.Vec:
    fine = vec.copy()
    for lift in lifts:
        fine, coarse = lift.apply(fine), fine
        coarse.destroy()
    return fine


def _restricted(m: PETSc.Vec, given: PETSc.Vec, lifts: Sequence[Lift]) -> PETSc.Vec:
    """Means of m, weighted as it is interpolated; what is not free as in `given`."""
    one = m.duplicate()
    one.set(1.0)
    total, weight = m.copy(), one
    for lift in reversed(lifts):
        for_total, for_weight = (
            lift.apply_transpose(total),
            lift.apply_transpose(weight),
        )
        total.destroy()
        weight.destroy()
        total, weight = for_total, for_weight
    own, size = total.getArray(), weight.getArray(readonly=True)
    seen = np.abs(size) > 0.1
    kept = given.getArray(readonly=True)
    own[...] = np.where(seen, own / np.where(seen, size, 1.0), kept)
    weight.destroy()
    return total
