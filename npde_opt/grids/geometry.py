"""Lengths, areas and volumes of tensor grids, as products of one factor an axis.

On a radial grid the first axis is the distance r from an axis of symmetry, and a cell is a ring:

    volume          of r_1 < r < r_2 times h_z:  pi (r_2^2 - r_1^2) h_z
    area at r       2 pi r h_z;  normal to z: pi (r_2^2 - r_1^2)
    half lengths    from a cell's centre r_c to its face r_f, such that flux = area D du / length:
                    r_f |log(r_f/r_c)| around a hole, |r_f - r_c| where r = 0 is in the grid

so that flow from a hole, u = a + b log r, is exact whatever the cells; around the axis, where u
goes with r^2, plain distances are the better ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from npde_opt.errors import InputError

AXES = "xyz"
RADIAL_AXES = "rz"


def edges_of(
    shape: Sequence[int],
    extent: Sequence[float] | None,
    edges: Sequence[np.ndarray] | None,
    origin: Sequence[float] | None,
) -> tuple[np.ndarray, ...]:
    """Edges by axis, equal where lengths are given. Raises InputError for what cannot be."""
    dim = len(shape)
    if edges is None:
        lengths = [1.0] * dim if extent is None else [float(x) for x in extent]
        lower = [0.0] * dim if origin is None else [float(x) for x in origin]
        if len(lengths) != dim or not all(np.isfinite(x) and x > 0 for x in lengths):
            raise InputError("grid.extent", extent, f"{dim} positive lengths")
        if len(lower) != dim or not np.isfinite(lower).all():
            raise InputError("grid.origin", origin, f"{dim} numbers")
        return tuple(
            a + x * np.linspace(0, 1, n + 1)
            for a, x, n in zip(lower, lengths, shape, strict=True)
        )
    arrays = tuple(np.asarray(e, float) for e in edges)
    for axis, e, n in zip(AXES, arrays, shape, strict=False):
        if e.shape != (n + 1,) or not np.isfinite(e).all() or np.any(np.diff(e) <= 0):
            allowed = f"{n + 1} strictly increasing numbers"
            raise InputError(f"grid.edges.{axis}", f"{e.size} values", allowed)
    if len(arrays) != dim:
        raise InputError("grid.edges", len(arrays), f"{dim} arrays")
    return arrays


def check_radial(edges: Sequence[np.ndarray], first: str) -> None:
    """Raises InputError for a radial grid that cannot be.

    Args:
        first: the kind of the side x-.
    """
    if len(edges) > 2:
        raise InputError(
            "grid.geometry", f"radial with {len(edges)} axes", "one, r, or two: r, z"
        )
    inner = float(edges[0][0])
    if inner < 0:
        raise InputError("grid.origin", inner, "an r >= 0 of a radial grid")
    if first == "periodic":
        raise InputError(
            "boundaries.x-", first, "another kind: r does not close on itself"
        )
    if inner == 0 and first != "neumann":
        raise InputError(
            "boundaries.x-", first, "neumann: r = 0 is the axis, not a side"
        )


class Geometry:
    """Of a tensor grid with these edges, `radial` or not. Arrays are of whole axes.

    Attributes:
        measures: by axis, the cells' factors in volumes: widths, or areas of rings.
        faces: by axis, the factors of all n + 1 faces normal to it in their areas beside the
            measures of the other axes: 1, or 2 pi r.
        halves: by axis [2, n], lengths between centres and lower and upper faces.
    """

    def __init__(self, edges: Sequence[np.ndarray], radial: bool = False):
        self.radial = radial
        self.measures = [self.measure(d, e[:-1], e[1:]) for d, e in enumerate(edges)]
        self.faces = [np.ones(e.size) for e in edges]
        self.halves = [np.tile(np.diff(e) / 2, (2, 1)) for e in edges]
        if radial:
            r = edges[0]
            self.faces[0] = 2 * math.pi * r
            if r[0] > 0:
                centers = (r[1:] + r[:-1]) / 2
                inner, outer = (
                    r[:-1] * np.log(centers / r[:-1]),
                    r[1:] * np.log(r[1:] / centers),
                )
                self.halves[0] = np.array([inner, outer])

    def measure(self, axis: int, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Factors of intervals of an axis in volumes."""
        lengths = upper - lower
        return (
            lengths * (math.pi * (upper + lower))
            if self.radial and axis == 0
            else lengths
        )

    def measured(self, axis: int, x: np.ndarray) -> np.ndarray:
        """A coordinate of which `measure` is the difference."""
        return math.pi * x**2 if self.radial and axis == 0 else x
