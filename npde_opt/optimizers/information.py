"""What a Hessian H says of a few parameters: how well, and which combinations of them it does not
see.

    C = S^-1/2 H S^-1/2,   S = diag(H),   C = V diag(c) V^T,
    H^+ = S^-1/2 V_+ diag(1 / c_+) V_+^T S^-1/2

Scaled by its own diagonal, C is the same in every unit of the parameters: a component of an
eigenvector is by how much that parameter moves the data. V_+ are the eigenvectors whose eigenvalues
stand out from the error of H; the others, and parameters whose S_i does not, span the null space. A
change along it has no limit, so that the least component of it that is not rounding leaves a
parameter open: a logarithm may change by 1, another by 1e-6 with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNSEEN = 1e-14
"""S_i in natural units, relative to the largest: the square of a solver's relative error, with
room."""
COLLINEAR = 1e-12
"""Least eigenvalue of C, relative to the largest, that is not rounding."""
ASYMMETRY = 30.0
"""How far an eigenvalue of C must stand out from C's asymmetry, what H's solves left of error."""
SAME = 1e-6
"""The part of what an unseen parameter does that the others cannot do, where they can do it all."""
SMALL = 1e-6
"""A component of an eigenvector, relative to its largest, that is rounding at best."""
CANCELS = 1e-3
"""What is left of a figure's changes along a null direction, relative to the largest, where it has
none."""


class Information:
    """The scaled inverse of H and its null space.

    Args:
        H: (n, n), a Hessian in units of the noise; symmetric up to its errors.
        unit: (n,), positive: by how much each parameter changes naturally, 1 for logarithms, its
            own size otherwise.
    """

    def __init__(self, H: np.ndarray, unit: np.ndarray | float = 1.0):
        count = len(H)
        self.unit = np.broadcast_to(np.asarray(unit, float), (count,))
        size = np.maximum(np.diag(H), 0.0)
        natural = size * self.unit**2
        least = min(1.0, UNSEEN * float(natural.max(initial=0.0)))
        self.seen = natural > least
        on = np.flatnonzero(self.seen)
        self.scale = np.where(size > 0, 1 / np.sqrt(np.where(size > 0, size, 1.0)), 0.0)
        scaled = self.scale[:, None] * H * self.scale
        C = scaled[np.ix_(on, on)]
        values, vectors = np.linalg.eigh((C + C.T) / 2)
        error = ASYMMETRY * float(np.abs(C - C.T).max(initial=0.0))
        good = values > max(COLLINEAR, error) * max(float(values.max(initial=0.0)), 1.0)

        roots = np.zeros((count, int(good.sum())))
        roots[on] = vectors[:, good] / np.sqrt(values[good])
        self.inverse = (self.scale[:, None] * roots) @ (self.scale[:, None] * roots).T
        gap = float(values[good].min(initial=1.0))
        self.rounding = max(SMALL, error / gap)
        mixed = np.zeros((int((~good).sum()), count))
        mixed[:, on] = vectors[:, ~good].T
        blind = [
            self._like_others(i, scaled, roots)
            for i in map(int, np.flatnonzero(~self.seen))
        ]
        directions = [self._natural(v) for v in (*blind, *mixed)]
        self.null = np.reshape(directions, (len(directions), count))

    def _like_others(self, i: int, scaled: np.ndarray, roots: np.ndarray) -> np.ndarray:
        """(n,) null direction of a parameter that is not seen: alone, or with those that undo all
        that it does.

        A logarithm far down does next to nothing, but what it does may be what another one does.
        """
        direction = np.eye(len(scaled))[i]
        others = roots @ (roots.T @ scaled[:, i])
        left = 1.0 - float(others @ scaled[:, i])
        # What rounding left of a parameter is like nothing: `left` is then any number.
        return (
            direction - others if self.scale[i] > 0 and abs(left) < SAME else direction
        )

    def _natural(self, v: np.ndarray) -> np.ndarray:
        """A null direction of C as one of the parameters: without rounding, of largest component 1
        in natural units."""
        kept = np.where(np.abs(v) > self.rounding * np.abs(v).max(), v, 0.0)
        direction = kept * np.where(self.scale > 0, self.scale, 1.0)
        natural = direction / self.unit
        return direction / natural[np.argmax(np.abs(natural))]

    def deviation(self, gradient: np.ndarray) -> float | None:
        """Standard deviation of f with the given gradient, sqrt(f'^T H^+ f'); None where the null
        space moves f."""
        for direction in self.null:
            parts = gradient * direction
            if abs(float(parts.sum())) > CANCELS * float(np.abs(parts).max()) > 0:
                return None
        return float(np.sqrt(max(float(gradient @ self.inverse @ gradient), 0.0)))

    @property
    def undetermined(self) -> np.ndarray:
        """(n,) bool: which parameters have a component in the null space."""
        return (self.null != 0).any(axis=0)

    def combinations(self, names: Sequence[str]) -> list[str]:
        """The null directions as text: which parameter alone, or which changes together, no datum
        sees."""
        found = []
        for direction in self.null:
            natural = direction / self.unit
            parts = [
                f"{names[i]} ({natural[i]:+.3g})"
                for i in map(int, np.flatnonzero(natural))
            ]
            alone = names[int(np.argmax(np.abs(natural)))]
            found.append(" with ".join(parts) if len(parts) > 1 else alone)
        return found
