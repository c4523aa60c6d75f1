"""All that is between the cells of fused steps at given coefficients: diffusion and advection in
the shortest form that says it, and D(u)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.fused_advection import FlowValues
from npde_opt.forward.fused_diffusion import ConstantValues, FaceValues, Scale, Values
from npde_opt.forward.fused_nonlinear import FluxValues
from npde_opt.forward.fused_spread import Cells
from npde_opt.forward.fused_together import Together
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.terms.nonlinear_diffusion import NonlinearDiffusionAt
from npde_opt.terms.state import Gradients


class Spreads:
    """A sum of spreads' arrays (see fused_diffusion.Values).

    Args:
        linear: diffusion and advection, or None.
        fluxes: terms of D(u).
    """

    def __init__(
        self,
        part: LinearPart,
        linear: LinearPoint | None,
        coefficients: Coefficients,
        fluxes: Sequence[NonlinearDiffusionAt],
    ):
        scale = Scale.of(part)
        self.weighted, self._m = scale.weighted, list[np.ndarray]()
        if self.weighted:
            around = part.grid.ghosted(np.asfortranarray(1 / part.mass), 0.0)
            self._m.append(np.ascontiguousarray(around.T))
        self.linear: ConstantValues | FaceValues | FlowValues | None = None
        if linear is not None and FlowValues.apply(linear):
            self.linear = FlowValues(linear, scale)
        elif linear is not None and ConstantValues.apply(linear, coefficients):
            self.linear = ConstantValues(linear, coefficients)
        elif linear is not None:
            self.linear = FaceValues(linear, scale)
        self.nonlinear = FluxValues(fluxes, scale) if fluxes else None
        given: list[Values | None] = [self.linear, self.nonlinear]
        self.parts = [part for part in given if part is not None]

    @property
    def padded(self) -> bool:
        """Whether backward loops read the ghosts of states."""
        return any(part.padded for part in self.parts)

    @property
    def bounds(self) -> list[float] | None:
        """See Stepper.bounds: of numbers they are known."""
        return self.linear.bounds if isinstance(self.linear, ConstantValues) else None

    def spread(self, cells: Cells) -> Together:
        parts = tuple(part.spread(cells) for part in self.parts)
        return Together(parts, self.weighted)

    def values(self, samples: tuple[int, ...]) -> list[np.ndarray | float]:
        return [*(v for part in self.parts for v in part.values(samples)), *self._m]

    def changes(self, dk: Coefficients) -> list[np.ndarray | float]:
        return [v for part in self.parts for v in part.changes(dk)]

    @property
    def sums(self) -> list[np.ndarray]:
        return [v for part in self.parts for v in part.sums]

    def more_sums(self, dk: Coefficients) -> list[np.ndarray]:
        return [v for part in self.parts for v in part.more_sums(dk)]

    def clear(self) -> None:
        for part in self.parts:
            part.clear()

    def flush(self, out: Gradients) -> None:
        for part in self.parts:
            part.flush(out)
