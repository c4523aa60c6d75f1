"""Coefficients k = T(p) at a point, and the chain rule through T and the blocks' S:

dk/dp dp = S T'(p) dp,   (dk/dp)^T y = T'(p) S^T y,   (d2k/dp2 dp)^T y = T''(p) dp S^T y
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficient, Coefficients
from npde_opt.parameters.interface import Placed
from npde_opt.parameters.unknown import Unknown


class Space(Protocol):
    """What a point asks of its space; see ParameterSpace."""

    comm: MPI.Intracomm
    unknowns: tuple[Unknown, ...]
    blocks: dict[str, Placed]

    def own(self, vec: PETSc.Vec, name: str) -> np.ndarray: ...
    def look(self, vec: PETSc.Vec, name: str) -> np.ndarray: ...
    def values(self, vec: PETSc.Vec, name: str) -> np.ndarray: ...


class ParametersAt:
    """All coefficients at a point. `k` are transformed values by name, those that this rank reads.
    Methods are collective."""

    def __init__(self, space: Space, vec: PETSc.Vec):
        self.space = space
        self.k = {u.name: u.value(space.values(vec, u.name)) for u in space.unknowns}

    def coefficients(self) -> dict[str, Coefficient]:
        """What terms read: owned cell values [i, j, k] of fields (1 in inactive cells, known values
        where they are fixed) and regions, arrays, and numbers."""
        return {
            name: block.coefficient(self.k[name])
            for name, block in self.space.blocks.items()
        }

    def finite(self) -> bool:
        """Whether all coefficients are finite, and positive where their transform makes them so."""
        good = all(u.transform.defined(self.k[u.name]) for u in self.space.unknowns)
        return reductions.everywhere(self.space.comm, good)

    def push(self, dm: PETSc.Vec) -> dict[str, Coefficient]:
        """The change of `coefficients` with a change of the parameters."""
        out = {}
        for u in self.space.unknowns:
            dk = u.slope(self.k[u.name]) * self.space.values(dm, u.name)
            out[u.name] = self.space.blocks[u.name].change(dk)
        return out

    def pull(self, dk: Coefficients, out: PETSc.Vec) -> None:
        """Adds the transpose of `push` of cotangents by name: cell values, and this rank's part of
        those of arrays and numbers (of a number also cell by cell)."""
        for u in self.space.unknowns:
            if u.name in dk:
                block, own = self.space.blocks[u.name], self.space.own(out, u.name)
                slope = u.slope(block.own(self.k[u.name]))
                own += slope * block.sums(dk[u.name])

    def pull_second(self, dk: Coefficients, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        """Adds the curvature of the transforms along dm times the cotangents."""
        for u in self.space.unknowns:
            if u.name in dk and not u.transform.linear:
                block, own = self.space.blocks[u.name], self.space.own(out, u.name)
                curvature = u.curvature(block.own(self.k[u.name]))
                own += curvature * self.space.look(dm, u.name) * block.sums(dk[u.name])
