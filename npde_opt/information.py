"""What a Hessian H says of a few parameters: how well, and which combinations of them it does not see.

    C = S^-1/2 H S^-1/2,   S = diag(H),   C = V diag(c) V^T,   H^+ = S^-1/2 V_+ diag(1 / c_+) V_+^T S^-1/2

Scaled by its own diagonal, C is the same in every unit of the parameters. V_+ are the eigenvectors whose eigenvalues
stand out from the error of H; the others, and parameters whose S_i does not, span the null space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNSEEN = 1e-14
"""S_i in natural units, relative to the largest: the square of a solver's relative error, with room."""
COLLINEAR = 1e-12
"""Least eigenvalue of C, relative to the largest, that is not rounding."""
ASYMMETRY = 30.0
"""How far an eigenvalue of C must stand out from C's asymmetry, which is what H's solves left of error."""
SHARE = 1e-3
"""A component of a null direction, relative to its largest, that is not rounding."""


class Information:
    """The scaled inverse of H and its null space.

    Args:
        H: (n, n), a Hessian in units of the noise; symmetric up to its errors.
        unit: (n,), positive: by how much each parameter changes naturally, 1 for logarithms, its own size otherwise.
    """

    def __init__(self, H: np.ndarray, unit: np.ndarray | float = 1.0):
        count = len(H)
        self.unit = np.broadcast_to(np.asarray(unit, float), (count,))
        size = np.maximum(np.diag(H), 0.0)
        natural = size * self.unit**2
        least = min(1.0, UNSEEN * float(natural.max(initial=0.0)))
        self.seen = natural > least
        on = np.flatnonzero(self.seen)
        scale = 1 / np.sqrt(size[on])
        C = scale[:, None] * H[np.ix_(on, on)] * scale
        values, vectors = np.linalg.eigh((C + C.T) / 2)
        error = ASYMMETRY * float(np.abs(C - C.T).max(initial=0.0))
        good = values > max(COLLINEAR, error) * max(float(values.max(initial=0.0)), 1.0)

        roots = np.zeros((count, int(good.sum())))
        roots[on] = scale[:, None] * vectors[:, good] / np.sqrt(values[good])
        self.inverse = roots @ roots.T
        blind = np.eye(count)[~self.seen]
        mixed = np.zeros((int((~good).sum()), count))
        mixed[:, on] = (scale[:, None] * vectors[:, ~good]).T
        directions = [self._cleaned(v) for v in (*blind, *mixed)]
        self.null = np.reshape(directions, (len(directions), count))

    def _cleaned(self, direction: np.ndarray) -> np.ndarray:
        """A null direction of largest component 1 in natural units, those that are rounding set to 0."""
        natural = direction / self.unit
        natural = natural / natural[np.argmax(np.abs(natural))]
        return np.where(np.abs(natural) > SHARE, natural, 0.0) * self.unit

    def deviation(self, gradient: np.ndarray) -> float | None:
        """Standard deviation of f with the given gradient, sqrt(f'^T H^+ f'); None where the null space moves f."""
        for direction in self.null:
            parts = gradient * direction
            if abs(float(parts.sum())) > SHARE * float(np.abs(parts).max()) > 0:
                return None
        return float(np.sqrt(max(float(gradient @ self.inverse @ gradient), 0.0)))

    @property
    def undetermined(self) -> np.ndarray:
        """(n,) bool: which parameters have a component in the null space."""
        return (self.null != 0).any(axis=0)

    def combinations(self, names: Sequence[str]) -> list[str]:
        """The null directions as text: which parameter alone, or which changes together, no datum sees."""
        found = []
        for direction in self.null:
            natural = direction / self.unit
            parts = [f"{names[i]} ({natural[i]:+.3g})" for i in map(int, np.flatnonzero(natural))]
            found.append(" with ".join(parts) if len(parts) > 1 else names[int(np.argmax(np.abs(natural)))])
        return found
