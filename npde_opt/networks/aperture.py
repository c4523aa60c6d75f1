"""From pictures to light: a picture of one channel lights an aperture of more and finer cells, as
an amplitude of two channels whose imaginary part is 0, of power 1.

    place       u'(x) = the picture's cell that x lies in; 0 beyond the picture
    power       u' = u / |u|,   |u|^2 = sum over channels and cells, sample by sample
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.layer import Stages
from npde_opt.networks.interface import Values
from npde_opt.networks.lines import Lines
from npde_opt.networks.matrices import on_channels
from npde_opt.networks.place import Place
from npde_opt.networks.template import Plain, Sums


class Aperture:
    """An operator; every cell of the picture becomes as many along each axis as fit.

    Args:
        source: of the picture, one channel.
        target: of the field.
        margin: cells at all sides that stay dark.

    Raises:
        InputError: where the picture does not fit.
    """

    def __init__(self, source: Place, target: Place, margin: int = 0):
        if source.channels != 1:
            raise InputError("channels", source.channels, "1, the amplitude")
        pairs = list(zip(source.layout.shape, target.layout.shape, strict=True))
        factor = min((n - 2 * margin) // m for m, n in pairs)
        if factor < 1:
            told = f"{target.layout.shape} with a margin of {margin}"
            raise InputError(
                "cells", told, f"more than {source.layout.shape} of the picture"
            )
        self.factor = factor
        self._lines = Lines(source, [_spread(m, n, factor) for m, n in pairs], target)
        self.source, self.target = source, self._lines.target

    def apply(self, u: np.ndarray) -> np.ndarray:
        return self._lines.apply(np.concatenate([u, np.zeros_like(u)]))

    def transpose(self, y: np.ndarray) -> np.ndarray:
        return self._lines.transpose(y)[:1]

    def matrix(self) -> PETSc.Mat:
        cells = self._lines.cells(True)
        found = on_channels(cells, np.array([[1.0], [0.0]]))
        cells.destroy()
        return found


def _spread(before: int, after: int, factor: int) -> np.ndarray:
    """(after, before): every cell `factor` times, in the middle."""
    found = np.zeros((after, before))
    cells = np.arange(before * factor)
    found[(after - cells.size) // 2 + cells, cells // factor] = 1.0
    return found


class UnitPower(Plain):
    """The layer u / |u|; a sample of zeros stays one."""

    def __init__(self, source: Place):
        self.source = self.target = source

    def at(self, k: Values, x: np.ndarray | None) -> UnitPowerAt:
        return UnitPowerAt(self.source)


class UnitPowerAt:
    """See forward/layer.py. Its stages are u, u'; with n = |u|,

    lambda = (lambda' - u' <u', lambda'>) / n,
    dlambda = (dlambda' - du' <u', lambda'> - u' d<u', lambda'> - lambda <u', du>) / n.
    """

    def __init__(self, place: Place):
        self.place = place

    def _inner(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """<u, v> of each sample, to broadcast."""
        axes = (0, *range(2, u.ndim))
        own = (u * v).sum(axis=axes, dtype=float)
        whole = reductions.total(self.place.comm, own)
        return whole.astype(u.dtype).reshape(1, -1, *(1,) * (u.ndim - 2))

    def _over(self, u: np.ndarray) -> np.ndarray:
        """1 / n, 0 where that is 0."""
        n = np.sqrt(self._inner(u, u))
        return np.divide(1, n, out=np.zeros_like(n), where=n > 0)

    def step(self, u: np.ndarray) -> Stages:
        return [u, u * self._over(u)]

    def _projected(self, unit: np.ndarray, v: np.ndarray) -> np.ndarray:
        return v - unit * self._inner(unit, v)

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        u, unit = stages
        return [du, self._projected(unit, du) * self._over(u)]

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        u, unit = stages
        return self._projected(unit, adjoint) * self._over(u), [adjoint]

    def second(
        self,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Sums,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        (u, unit), (du, dunit), (mu,) = stages, changes, multipliers
        over = self._over(u)
        before = self._projected(unit, mu) * over
        found = self._projected(unit, dadjoint) - dunit * self._inner(unit, mu)
        found -= unit * self._inner(dunit, mu) + before * self._inner(unit, du)
        return found * over, [dadjoint]


def opposed(
    cells: tuple[int, ...], count: int, gain: float = 1.0, margin: int = 0
) -> np.ndarray:
    """Regions R [r, j, i] of so many pairs of square detectors on a plane, for differences of their
    intensities: +gain in one, -gain in the other. They stand in rows, a pair beside each other.

    Args:
        cells: (j, i) of the plane.
        margin: cells at all sides where no detector is.

    Raises:
        InputError: where there is no room.
    """
    room = [n - 2 * margin for n in cells]
    # Pairs beside each other: even numbers of columns, of which those win that leave most room.
    pitches = [
        min(room[0] // -(-2 * count // n), room[1] // n)
        for n in range(2, 2 * count + 1, 2)
    ]
    pitch = max(pitches)
    columns = 2 * pitches.index(pitch) + 2
    rows = -(-2 * count // columns)
    side = (pitch + 1) // 2
    if pitch < 2:
        told = f"{count} pairs on {cells} cells with a margin of {margin}"
        raise InputError("detectors", told, "2 cells each and as much between them")
    found = np.zeros((count, *cells))
    first = [
        (n - m * pitch + pitch - side) // 2
        for n, m in zip(cells, (rows, columns), strict=True)
    ]
    for number in range(2 * count):
        row, column = divmod(number, columns)
        j, i = first[0] + row * pitch, first[1] + column * pitch
        found[number // 2, j : j + side, i : i + side] = (
            gain if number % 2 == 0 else -gain
        )
    return found
