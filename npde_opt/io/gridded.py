"""Arrays with their place: values of cells (or points) and the coordinates that a file gives them.

An image says where cell (i, j, k) lies by an affine map, x = corner + S (i, j, k): S has one column
an index. `aligned` turns such an array until x, y and z increase with i, j and k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OBLIQUE = 1e-4
"""Part of a cell's length by which it may lean away from its axis."""


@dataclass(frozen=True, eq=False)
class Gridded:
    """An array and where it lies.

    Attributes:
        values: [i, j, k], or [c, i, j, k] with c > 1 components in front.
        edges: per axis the increasing coordinates of the n + 1 cell edges (kind 'cells') or of the
            n points (kind 'points'), in `unit`; one coordinate alone says that the file is flat
            along this axis. None: the file says nothing about place.
        kind: 'cells' or 'points', what the values belong to.
        unit: of the edges, '' where the file does not say.
        rounding: of the values in the file, relative to the power of two below them; None: as their
            number type says.
    """

    values: np.ndarray
    edges: tuple[np.ndarray, ...] | None = None
    kind: str = "cells"
    unit: str = ""
    rounding: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def components(self) -> int:
        """Values a cell; 1 for arrays without edges, of which nobody knows."""
        if self.edges is None or self.values.ndim == len(self.edges):
            return 1
        return int(self.values.shape[0])

    @property
    def box(self) -> str:
        """Lower to upper corner as text, '' without a place."""
        return (
            ""
            if self.edges is None
            else box_text(self.edges) + (f" {self.unit}" if self.unit else "")
        )


def box_text(edges: tuple[np.ndarray, ...] | list[np.ndarray]) -> str:
    """[0, 1] x [-2, 5.5]"""
    return " x ".join(f"[{e[0]:g}, {e[-1]:g}]" for e in edges)


@dataclass(frozen=True, eq=False)
class Upright:
    """How the indices of an image become x, y and z.

    Attributes:
        index_of: by axis, the index that runs along it.
        mirrored: by axis, whether coordinates decrease with that index.
        edges: by axis, as those of `Gridded`.
    """

    index_of: tuple[int, ...]
    mirrored: tuple[bool, ...]
    edges: tuple[np.ndarray, ...]

    def turned(self, values: np.ndarray) -> np.ndarray:
        """A view [..., x, y, z] of an image [..., i, j, k]."""
        lead = values.ndim - 3
        order = [*range(lead), *(lead + i for i in self.index_of)]
        turned = values.transpose(order)
        for axis, back in enumerate(self.mirrored):
            turned = np.flip(turned, lead + axis) if back else turned
        return turned

    def ranges(
        self, cells: tuple[slice, ...], shape: tuple[int, ...]
    ) -> tuple[slice, ...]:
        """Of the image's indices, those of cells of an upright array of this shape."""
        found = [slice(0, 0)] * 3
        for axis, (s, n) in enumerate(zip(cells, shape, strict=True)):
            back = slice(n - s.stop, n - s.start)
            found[self.index_of[axis]] = back if self.mirrored[axis] else s
        return tuple(found)


def upright(
    shape: tuple[int, ...],
    steps: np.ndarray,
    corner: np.ndarray,
    flat: tuple[bool, ...] = (),
    kind: str = "cells",
) -> Upright:
    """Of an image of this shape (i, j, k); arguments and errors as `aligned`."""
    steps, corner = np.asarray(steps, float), np.asarray(corner, float)
    if not (
        np.isfinite(steps).all()
        and np.isfinite(corner).all()
        and np.abs(steps).sum(axis=0).all()
    ):
        raise ValueError("its spacing or origin is zero or not finite")
    along = np.abs(steps).argmax(axis=0)
    main = steps[along, np.arange(3)]
    lean = np.abs(steps).sum(axis=0) - np.abs(main)
    if sorted(along.tolist()) != [0, 1, 2] or (lean > OBLIQUE * np.abs(main)).any():
        raise ValueError(
            "its axes are oblique to x, y, z; resample it to an upright image first"
        )
    index_of = np.argsort(along).tolist()
    edges = []
    for axis, index in enumerate(index_of):
        count = shape[index] + (kind == "cells")
        if flat and flat[index]:
            count = 1
        coordinates = corner[axis] + main[index] * np.arange(count)
        edges.append(coordinates[::-1] if main[index] < 0 else coordinates)
    mirrored = tuple(bool(main[index] < 0) for index in index_of)
    return Upright(tuple(index_of), mirrored, tuple(edges))


def aligned(
    values: np.ndarray,
    steps: np.ndarray,
    corner: np.ndarray,
    flat: tuple[bool, ...] = (),
    kind: str = "cells",
    unit: str = "",
) -> Gridded:
    """An image [..., i, j, k] turned and mirrored until x, y, z increase with its indices.

    Args:
        steps: S (3, 3), column d is the way from one cell to the next along index d.
        corner: x at the lower corner of cell (0, 0, 0), or at point (0, 0, 0).
        flat: indices along which the file has no thickness.

    Raises:
        ValueError: for axes that are no coordinate axes (an oblique image), and for steps of length
            0.
    """
    turn = upright(values.shape[values.ndim - 3 :], steps, corner, flat, kind)
    return Gridded(turn.turned(values), turn.edges, kind, unit)


def increasing(values: np.ndarray, edges: list[np.ndarray], kind: str) -> Gridded:
    """An array [..., i, j, k] with coordinates of its own, mirrored where they decrease.

    Raises:
        ValueError: for coordinates that neither increase nor decrease.
    """
    lead, out = values.ndim - len(edges), []
    for axis, e in enumerate(edges):
        if e.size > 1 and np.all(np.diff(e) < 0):
            values, e = np.flip(values, lead + axis), e[::-1]
        if not np.isfinite(e).all() or np.any(np.diff(e) <= 0):
            raise ValueError(f"its {'xyz'[axis]} coordinates do not increase")
        out.append(e)
    return Gridded(values, tuple(out), kind)


def trimmed(found: Gridded) -> Gridded:
    """Without the trailing axes along which the file is flat: a plane is [i, j]."""
    assert found.edges is not None
    thick = [d + 1 for d, e in enumerate(found.edges) if e.size > 1]
    keep = max(thick, default=1)
    lead = found.values.ndim - len(found.edges)
    shape = found.values.shape[: lead + keep]
    return Gridded(
        found.values.reshape(shape, order="F"),
        found.edges[:keep],
        found.kind,
        found.unit,
    )
