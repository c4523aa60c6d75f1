"""Where the values of a file lie on a case's grid.

Files with coordinates (.vtr, .vti, .vtk, NIfTI) lie where they say and must cover the grid's box.
Arrays without (.npy, .npz, .mat, GRDECL, columns of text) are values of the cells of the case's own
grid; those of another shape are refused, unless the case asks for `resample`: then their cells are
laid evenly over the box.
"""

from __future__ import annotations

import math

import numpy as np

from npde_opt.aliases import Record
from npde_opt.cases.sources import MILLIMETRE, Edges, Sources, mni152_corner
from npde_opt.errors import InputError
from npde_opt.io.fields import check_fit, hint, thick
from npde_opt.io.gridded import Gridded, box_text
from npde_opt.io.stored import Stored

COVER = 1e-5
"""Part of the box's length by which a file may fall short of it (files store coordinates in single
precision)."""
SINGLE = 1e-7
LENGTHS = {
    "km": 1e3,
    "m": 1.0,
    "dm": 0.1,
    "cm": 1e-2,
    "mm": 1e-3,
    "um": 1e-6,
    "µm": 1e-6,
    "μm": 1e-6,
    "nm": 1e-9,
}
IMAGES = (".nii", ".nii.gz")


def place(
    field: str, spec: Record, found: Gridded | Stored, edges: Edges, sources: Sources
) -> tuple[tuple[int, ...], Edges]:
    """The shape [i, j, k] to which the values of a file are folded, x fastest, and the edges of
    their cells, in the coordinates of the case.

    Args:
        spec: the field's table, with `file` and perhaps `shape` and `resample`.
        edges: of the grid that the values are for; all grids of a case have the same box.

    Raises:
        InputError: for values at points, several components, another number of axes or another
            shape, and a file that does not cover the box.
    """
    if found.edges is None:
        return _by_cell(field, spec, found.shape, edges, sources.homes or (edges,))
    if found.kind == "points":
        allowed = "values of cells (ParaView: Point Data to Cell Data)"
        raise InputError(field, f"values at the points of {spec['file']}", allowed)
    if found.components > 1:
        allowed = "an array of one value a cell"
        raise InputError(
            field, f"{found.components} components in {spec['file']}", allowed
        )
    if "shape" in spec:
        check_fit(f"{field}: {spec['file']}", found.shape, tuple(spec["shape"]))
    shape, box = _upright(field, spec, found, edges)
    box = _in_units(field, spec["file"], found.unit, box, sources)
    for a, e in zip(box, edges, strict=True):
        slack = COVER * (e[-1] - e[0]) + SINGLE * np.abs(e).max()
        if a[0] > e[0] + slack or a[-1] < e[-1] - slack:
            raise InputError(
                field,
                f"{spec['file']} on the box {box_text(box)}",
                "a file that covers the grid's box "
                f"{box_text(edges)}{_of_unit(found.unit, sources)}",
            )
    return shape, box


def _of_unit(unit: str, sources: Sources) -> str:
    return (
        f" (case.length_unit is {sources.unit!r}, the file's unit {unit!r})"
        if unit
        else ""
    )


def _upright(
    field: str, spec: Record, found: Gridded | Stored, edges: Edges
) -> tuple[tuple[int, ...], Edges]:
    """Shape and edges with as many axes as the grid has; along an axis where the file is flat its
    only cell is the grid's."""
    assert found.edges is not None
    box, shape = list(found.edges), list(found.shape)
    while len(box) > len(edges) and shape[-1] == 1:
        box, shape = box[:-1], shape[:-1]
    while len(box) < len(edges):
        box, shape = [*box, np.zeros(1)], [*shape, 1]
    flat = [d for d, a in enumerate(box) if a.size == 1]
    if len(box) != len(edges) or any(edges[d].size > 2 for d in flat):
        allowed = f"values along all {len(edges)} axes of the grid {cells(edges)}"
        raise InputError(field, f"{spec['file']} of shape {found.shape}", allowed)
    for d in flat:
        box[d] = edges[d][[0, -1]]
    return tuple(shape), box


def _in_units(field: str, file: str, unit: str, box: Edges, sources: Sources) -> Edges:
    """Edges in the case's unit of length. Coordinates of an image on the MNI152 anatomy are those
    of the MNI space in mm.

    Raises:
        InputError: where the file names a unit and the case another one that is not known.
    """
    image = file.lower().endswith(IMAGES)
    if image and sources.anatomy[0] is not None:
        factor = LENGTHS.get(unit, MILLIMETRE) / MILLIMETRE
        return [
            (e * factor - c) * MILLIMETRE
            for e, c in zip(box, mni152_corner(), strict=False)
        ]
    if unit not in LENGTHS or not sources.unit.strip():
        return box
    if sources.unit not in LENGTHS:
        allowed = f"{', '.join(LENGTHS)}; or '' for coordinates as they are in {file}"
        raise InputError(
            "case.length_unit", f"{sources.unit!r}, with {field} in {unit}", allowed
        )
    return [e * (LENGTHS[unit] / LENGTHS[sources.unit]) for e in box]


def _by_cell(
    field: str,
    spec: Record,
    shape: tuple[int, ...],
    edges: Edges,
    homes: tuple[Edges, ...],
) -> tuple[tuple[int, ...], Edges]:
    """Of values without a place: of the cells of one of `homes`, or laid evenly over the box on
    request."""
    if "shape" in spec:
        wanted = tuple(spec["shape"])
        check_fit(f"{field}: {spec['file']}", shape, wanted)
        shape = wanted
    for home in homes:
        if thick(shape) == thick(cells(home)):
            return cells(home), home
    if spec.get("resample"):
        return _stretched(field, spec, shape, edges)
    own, size = cells(homes[0]), math.prod(shape)
    count = math.prod(own)
    can = len(_axes(shape, len(edges))) == len(edges)
    even = (
        "; or resample = true, which lays its cells evenly over the box" if can else ""
    )
    if len(shape) == 1 and size != count:
        allowed = f"{count:,} values, one a cell of the grid {' x '.join(map(str, own))}{even}"
        raise InputError(field, f"{size:,} values in {spec['file']}", allowed)
    if len(shape) == 1:
        allowed = f"shape = {list(own)} with it, where x runs fastest"
        raise InputError(
            field, f"a flat list of {size} values in {spec['file']}", allowed
        )
    raise InputError(
        field,
        f"an array of shape {shape} in {spec['file']}, {size:,} values",
        f"the grid's shape {own}, {count:,} cells{hint(shape, own)}{even}",
    )


def _axes(shape: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The shape without trailing axes of length 1 beyond so many."""
    while len(shape) > count and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _stretched(
    field: str, spec: Record, shape: tuple[int, ...], edges: Edges
) -> tuple[tuple[int, ...], Edges]:
    plain = _axes(shape, len(edges))
    if len(plain) != len(edges):
        raise InputError(
            field,
            f"an array of shape {plain} in {spec['file']}, {math.prod(plain):,} values",
            f"{len(edges)} axes with resample = true",
        )
    ends = zip(edges, plain, strict=True)
    return plain, [np.linspace(e[0], e[-1], n + 1) for e, n in ends]


def cells(edges: Edges) -> tuple[int, ...]:
    """Numbers of cells along the axes."""
    return tuple(e.size - 1 for e in edges)
