"""Open boundaries of wave equations: a layer in which u' = ... - W u with W growing as the cube of
the depth,

    W(d) = 4 (depth c / width) (d / width)^3,

so that a wave crossing at speed c loses exp(-depth) on its way to the side and as much on its way
back. What comes back is the sum of that and of what the growing W reflects, which needs a layer of
some wavelengths: with the default depth of 5 and a layer of 3 wavelengths or more less than 1e-3 of
the amplitude returns, for speeds from 0.6 to 1.4 times c.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npde_opt.errors import InputError
from npde_opt.grids import AXES, Grid, along
from npde_opt.terms.reaction import Reaction


class Absorbing(Reaction):
    """Damping B u of a complex equation, i g M du/dt = A u - i B u, with B = volume times a
    coefficient: g W."""

    absorbing = True


def absorbing_rate(
    grid: Grid, widths: Mapping[str, float], speed: float, depth: float = 5.0
) -> np.ndarray:
    """W at the owned cells [i, j, k] in 1/time: layers of `widths` {side: length} for waves of
    `speed`.

    On a periodic axis, where both sides are one place, a layer at one of them alone goes on beyond
    it, so that waves meet no jump of W from either side.

    In `gamma du/dt = ...` with gamma = i g it is the coefficient g W of an `Absorbing` term.
    """
    out = np.zeros(grid.local_shape, order="F")
    for side, width in widths.items():
        if side not in grid.boundaries:
            raise InputError("absorbing side", side, ", ".join(grid.boundaries))
        d, upper = AXES.index(side[0]), side[1] == "+"
        edges = grid.edges[d]
        if not 0 < width < edges[-1] - edges[0]:
            raise InputError(
                f"absorbing width of {side}",
                width,
                f"between 0 and {edges[-1] - edges[0]:g}",
            )
        x = grid.centers[d][grid.local_slice[d]]
        away = edges[-1] - x if upper else x - edges[0]
        opposite = side[0] + ("-" if upper else "+")
        if grid.periodic(d) and opposite not in widths:
            away = np.minimum(away, edges[-1] - edges[0] - away)
        inside = np.clip(1 - away / width, 0, 1)
        out += 4 * depth * speed / width * along(inside, d, grid.dim) ** 3
    return out
