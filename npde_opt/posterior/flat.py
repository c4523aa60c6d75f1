"""A flat prior of a few numbers beside fields: normal, around where they are, and so wide that the
data decide,

    P_ii = SHARE e_i^T D e_i,

with the data's Hessian D: along e_i alone the prior's deviation is 1000 times the data's.
"""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.objective import ObjectiveAt
from npde_opt.parameters.draws import normal

SHARE = 1e-6


class Flat:
    """A `regularizers.Normal` of an unknown with few values.

    Args:
        weights: own diagonal of P.
        first, count: of the own values among all of them.
    """

    improper = ""

    def __init__(self, weights: np.ndarray, first: int, count: int):
        self.weights, self.first, self.count = weights, first, count

    def value(self, p: PETSc.Vec) -> float:
        return 0.0

    def gradient(self, p: PETSc.Vec, out: PETSc.Vec) -> None:
        out.set(0.0)

    def hessian(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        out.set(0.0)

    def precision(self, p: PETSc.Vec, dp: PETSc.Vec, out: PETSc.Vec) -> None:
        out.setArray(self.weights * dp.getArray(readonly=True))

    def precondition(self, p: PETSc.Vec, r: PETSc.Vec, out: PETSc.Vec) -> None:
        out.setArray(r.getArray(readonly=True) / self.weights)

    def noise(self, p: PETSc.Vec, seed: int, out: PETSc.Vec) -> None:
        last = self.first + self.weights.size
        drawn = normal(seed, self.count, self.first, last)
        out.setArray(np.sqrt(self.weights) * drawn)

    def variance(self, p: PETSc.Vec) -> np.ndarray:
        return 1 / self.weights

    def destroy(self) -> None:
        """Nothing to destroy."""


def flat(at: ObjectiveAt) -> dict[str, Flat]:
    """Of the listed unknowns without a regularizer, by name. Collective.

    Raises:
        InputError: where the data do not see one of their values.
    """
    space, regularizers = at.objective.space, at.objective.regularizers
    open_ones = [u for u in space.unknowns if u.block.listed]
    open_ones = [u for u in open_ones if u.name not in regularizers]
    if not open_ones:
        return {}
    diagonal, image = space.create_vec(), space.create_vec()
    curved: dict[str, float] = {}
    for label, unit, _ in space.units(at.m):
        at.data_hessian(unit, image, True)
        curved[label] = float(unit.dot(image))
        diagonal.axpy(curved[label], unit)
        unit.destroy()
    found = {}
    for u in open_ones:
        for i in range(u.block.count):
            if not curved.get(u.label(i), 0.0) > 0:
                allowed = "a prior (a deviation in its [[unknown]]): the data do not see it alone"
                raise InputError(f"the prior of {u.label(i)}", "none", allowed)
        own = space.block_vec(diagonal, u.name)
        first, count = own.getOwnershipRange()[0], own.getSize()
        weights = SHARE * np.array(own.getArray(readonly=True))
        found[u.name] = Flat(weights, first, count)
        own.destroy()
    diagonal.destroy()
    image.destroy()
    return found
