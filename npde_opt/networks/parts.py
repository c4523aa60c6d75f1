"""Operators with the weights that they are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.networks.interface import Bilinear, Reading, Values, Weight
from npde_opt.networks.place import Place
from npde_opt.networks.template import Change, Sums


def fits(one: Place, other: Place) -> bool:
    """Whether a state of one can be one of the other."""
    return one.channels == other.channels and one.same_cells(other)


def check_fit(found: Place, wanted: Place, of: str) -> None:
    """Raises InputError where they do not fit; `of` names what is found."""
    if not fits(found, wanted):
        told = f"{of}: {found.channels} channels on {found.layout.shape} cells"
        raise InputError("layer", told, f"{wanted.channels} on {wanted.layout.shape}")


@dataclass(frozen=True)
class Part:
    """An operator with its weights; `sign` times it, where both share theirs with another."""

    operator: Bilinear
    weight: Weight
    sign: float = 1.0

    @classmethod
    def of(
        cls, operator: Bilinear, name: str, step: int | None = None, sign: float = 1.0
    ) -> Part:
        """With the weight of this name, of which a layer has its own where it gives its `step`."""
        return cls(operator, Weight(name, operator.shape, step, operator.inputs), sign)

    def __post_init__(self) -> None:
        if self.operator.shape != self.weight.shape:
            told = f"{self.weight.name} of shape {self.weight.shape}"
            raise InputError(
                "weight", told, f"shape {self.operator.shape} of its operator"
            )

    def changed(self, change: Change) -> Part:
        """With another operator."""
        return replace(self, operator=change(self.operator))

    def apply(self, k: Values, u: np.ndarray) -> np.ndarray:
        return self._signed(self.operator.apply(self.weight.of(k), u))

    def transpose(self, k: Values, y: np.ndarray) -> np.ndarray:
        return self._signed(self.operator.transpose(self.weight.of(k), y))

    def reading(self, k: Values, u: np.ndarray, dt: float = 1.0) -> Reading:
        """The loops of dt times it."""
        return self.operator.reading(self._weights(k, dt), u)

    def back(self, k: Values, y: np.ndarray, dt: float = 1.0) -> Reading:
        """The loops of dt times its transpose."""
        return self.operator.back(self._weights(k, dt), y)

    def _weights(self, k: Values, dt: float) -> np.ndarray:
        w, factor = self.weight.of(k), self.sign * dt
        return w if factor == 1 else factor * w

    def add(self, out: Sums, y: np.ndarray, u: np.ndarray, dt: float = 1.0) -> None:
        out.add(self.weight, self.sign * dt * self.operator.weights(y, u))

    def collect(
        self, out: Sums, back: Reading, y: np.ndarray, u: np.ndarray, dt: float = 1.0
    ) -> None:
        """Adds dt y (x) u, as far as `back` gathered it."""
        if back.gathers:
            out.add(self.weight, self.sign * dt * back.weights)
        else:
            self.add(out, y, u, dt)

    def _signed(self, found: np.ndarray) -> np.ndarray:
        return found if self.sign == 1 else -found


class Transposed:
    """y = W^T * u of an operator: states lie where its results do."""

    def __init__(self, operator: Bilinear):
        self.operator, self.local = operator, operator.local
        self.source, self.target = operator.target, operator.source
        self.shape, self.inputs = operator.shape, operator.inputs

    def reading(self, w: np.ndarray, u: np.ndarray) -> Reading:
        return self.operator.back(w, u)

    def back(self, w: np.ndarray, y: np.ndarray) -> Reading:
        return self.operator.reading(w, y)

    def apply(self, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.operator.transpose(w, u)

    def transpose(self, w: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.operator.apply(w, y)

    def weights(self, y: np.ndarray, u: np.ndarray) -> np.ndarray:
        return self.operator.weights(u, y)

    def matrix(self, w: np.ndarray) -> PETSc.Mat:
        return self.operator.matrix(w).transpose()
