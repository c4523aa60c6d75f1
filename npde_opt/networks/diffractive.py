"""Diffractive layers: a field of two channels, the real and the imaginary part, passes a mask, or
ends on detectors.

    mask        u' = exp(i phi) u                    phi [k, j, i], of each cell
    detectors   y_r = sum over cells R[r, x] |u(x)|^2

Between masks it propagates (lines.py). With v = i u', which is du'/dphi,

    mask        du' = exp(i phi) du + dphi v,   lambda = exp(-i phi) lambda',   dphi: <lambda', v>
    detectors   dy = 2 R <u, du>,   lambda = 2 u R^T lambda'
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.layer import Stages
from npde_opt.networks.dense import Dense
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.linear_layers import Applied
from npde_opt.networks.lines import Lines
from npde_opt.networks.matrices import entries
from npde_opt.networks.place import Place
from npde_opt.networks.solved import arrays
from npde_opt.networks.template import Plain, Sums


class Mask(Plain):
    """A layer exp(i phi).

    Args:
        source: of two channels.
        phase: the weight phi, of the shape [k, j, i] of all cells.

    Raises:
        InputError: for a weight of another shape, or other channels.
    """

    def __init__(self, source: Place, phase: Weight):
        cells = source.layout.shape[::-1]
        if phase.shape != cells:
            raise InputError(
                "weight", f"{phase.name} of shape {phase.shape}", f"shape {cells}"
            )
        _check_field(source)
        self.source = self.target = source
        self.phase = phase
        self.weights = [phase]

    def own(self, k: Values) -> np.ndarray:
        """phi at this rank's cells [k, j, i]."""
        return self.source.own(self.phase.of(k))

    def at(self, k: Values, x: np.ndarray | None) -> MaskAt:
        return MaskAt(self, k)

    def matrix(self, k: Values) -> PETSc.Mat:
        """The operator. The caller destroys it."""
        cells = self.source.layout.global_index(self.source.layout.owned_mesh())
        phi = self.own(k).ravel()
        c, s = np.cos(phi), np.sin(phi)
        return entries(
            self.source, self.target, cells, cells, np.array([[c, -s], [s, c]])
        )


class MaskAt:
    """A mask at one point; see forward/layer.py. Its stages are u, u'."""

    def __init__(self, of: Mask, k: Values):
        self.of = of
        self.cos, self.sin = np.cos(of.own(k)), np.sin(of.own(k))

    def _turned(self, u: np.ndarray, sign: float = 1.0) -> np.ndarray:
        """exp(i sign phi) u"""
        c, s = (x.astype(u.dtype, copy=False) for x in (self.cos, sign * self.sin))
        return np.stack([c * u[0] - s * u[1], s * u[0] + c * u[1]])

    def step(self, u: np.ndarray) -> Stages:
        return [u, self._turned(u)]

    def _moved(self, dk: Coefficients, dtype: np.dtype) -> np.ndarray | float:
        """dphi"""
        moved = arrays(dk)
        return self.of.own(moved).astype(dtype) if self.of.phase.name in moved else 0.0

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        return [du, self._turned(du) + self._moved(dk, du.dtype) * _by_i(stages[1])]

    def _add(self, out: Sums, adjoint: np.ndarray, u: np.ndarray) -> None:
        """Adds <lambda', i u'> of each cell, summed over samples."""
        own = self.of.source.own(out.of(self.of.phase))
        own += (adjoint * _by_i(u)).sum(axis=(0, 1), dtype=float)

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        if out is not None:
            self._add(out, adjoint, stages[1])
        return self._turned(adjoint, -1.0), [adjoint]

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
        self._add(out, dadjoint, stages[1])
        self._add(out, multipliers[0], changes[1])
        # d exp(-i phi) = -i dphi exp(-i phi)
        turned = self._turned(multipliers[0], -1.0)
        found = self._turned(dadjoint, -1.0)
        found -= self._moved(dk, found.dtype) * _by_i(turned)
        return found, [dadjoint]


def _by_i(u: np.ndarray) -> np.ndarray:
    """i u"""
    return np.stack([-u[1], u[0]])


class Detectors(Plain):
    """A layer of intensities over regions; the result is in a single cell, on rank 0.

    Args:
        source: of two channels.
        regions: R [r, k, j, i] of all cells, which may be negative: differences of intensities.

    Raises:
        InputError: for regions of another shape, or other channels.
    """

    def __init__(self, source: Place, regions: np.ndarray):
        cells = source.layout.shape[::-1]
        if regions.shape[1:] != cells:
            raise InputError("regions", regions.shape, f"(regions, *{cells})")
        _check_field(source)
        self.source = source
        self.sums = Dense(source.with_channels(1), len(regions))
        self.target = self.sums.target
        self.regions = np.asarray(regions, float).reshape(len(regions), -1)

    def at(self, k: Values, x: np.ndarray | None) -> DetectorsAt:
        return DetectorsAt(self)


class DetectorsAt:
    """Detectors; see forward/layer.py. Its stages are u, y."""

    def __init__(self, of: Detectors):
        self.of = of

    def _summed(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """R <u, v>"""
        product = (u * v).sum(axis=0, keepdims=True)
        return self.of.sums.apply(self.of.regions, product)

    def _spread(self, y: np.ndarray) -> np.ndarray:
        """2 R^T y"""
        return 2 * self.of.sums.transpose(self.of.regions, y)

    def step(self, u: np.ndarray) -> Stages:
        return [u, self._summed(u, u)]

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        return [du, 2 * self._summed(stages[0], du)]

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        spread = self._spread(adjoint)
        return stages[0] * spread, [spread]

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
        dspread = self._spread(dadjoint)
        return stages[0] * dspread + changes[0] * multipliers[0], [dspread]


def _check_field(source: Place) -> None:
    if source.channels != 2:
        raise InputError(
            "channels", source.channels, "2, the real and the imaginary part"
        )


def masks(way: Sequence[Lines], name: str = "phi") -> list[Applied | Mask]:
    """Propagation, mask, propagation, ... mask, propagation.

    Args:
        way: from the input to the first mask, on to each of the others, and to the detectors.
        name: of the weight, [mask, k, j, i]; phases start at 0.
    """
    found: list[Applied | Mask] = [Applied(way[0])]
    cells = way[0].source.layout.shape[::-1]
    for n, lines in enumerate(way[1:]):
        found += [Mask(lines.source, Weight(name, cells, n)), Applied(lines)]
    return found
