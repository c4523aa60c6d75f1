"""Keys of [case], [grid], [domain] and [boundaries]."""

from typing import Annotated, Literal

from msgspec import Meta

from npde_opt.cases.field_tables import (
    Cells,
    Count,
    Field,
    Index,
    NotNegative,
    Place,
    Positive,
    Side,
)
from npde_opt.cases.typed import Table


class CaseSection(Table, kw_only=True):
    """Names and units."""

    title: Annotated[str, Meta(description="one line for reports")] = ""
    length_unit: Annotated[
        str,
        Meta(
            description="of all lengths: files that name another one are converted; and in "
            "figures, where '1' is none"
        ),
    ] = "m"


class Growing(Table, kw_only=True):
    """Edges from `origin`: `equal` cells of size `first`, then each `growth` times the one
    before."""

    first: Annotated[float, Meta(gt=0, description="size of the first cells")]
    equal: Annotated[Count, Meta(description="cells of that size")]
    growth: Annotated[
        float, Meta(gt=0, le=10, description="of each cell against the one before")
    ]
    count: Annotated[Count, Meta(description="cells in all")]


Edges = Annotated[list[float], Meta(min_length=2)] | Growing


Choice = Literal["refuse", "snap", "drop"]


class Outside(Table, kw_only=True):
    """What becomes of places in no active cell of the case's own grid: refuse; snap: they go to the
    nearest active cell; drop: they do not count, their data are missing."""

    points: Annotated[Choice, Meta(description="of an observation")] = "refuse"
    electrodes: Annotated[
        Choice,
        Meta(description="given by `at`; one that carries a current is not dropped"),
    ] = "refuse"
    wells: Annotated[Choice, Meta(description="of an experiment and of [wells]")] = (
        "refuse"
    )


class GridSection(Table, kw_only=True):
    """The grid that is inverted."""

    file: Annotated[
        str | None,
        Meta(
            description="a TOML file with keys of this section, beside the case; keys given here "
            "win"
        ),
    ] = None
    shape: Annotated[
        Cells | None,
        Meta(
            description="cells along each axis; default: that of `domain`'s file divided by "
            "`coarsen`"
        ),
    ] = None
    extent: Annotated[
        Annotated[list[Positive], Meta(min_length=1, max_length=3)] | None,
        Meta(description="lengths along each axis; default 1 each, or the domain's"),
    ] = None
    origin: Annotated[
        Place | None,
        Meta(
            description="coordinates of the lower corner, also of `edges` that grow; default 0"
        ),
    ] = None
    edges: Annotated[
        Annotated[list[Edges], Meta(min_length=1, max_length=3)] | None,
        Meta(
            description="stretched grids, instead of shape and extent: an axis a list of n + 1 "
            "coordinates, or {first, equal, growth, count}: `equal` cells of size `first`, then "
            "each `growth` times the one before, `count` in all",
            extra={"not_with": ("shape", "extent")},
        ),
    ] = None
    geometry: Annotated[
        Literal["cartesian", "radial"],
        Meta(
            description="radial: the first axis is the distance r from an axis of symmetry, a "
            "second one z (sides and texts call them x and y); cells are rings, and r = 0 is closed"
        ),
    ] = "cartesian"
    coarsen: Annotated[
        Count, Meta(description="cells of the domain's file merged along each axis")
    ] = 1
    active: Annotated[
        Field | None,
        Meta(
            description="a field; cells where it exceeds 0.5 are active. Default: the domain's "
            "mask, else all"
        ),
    ] = None
    keep: Annotated[
        Literal["all", "largest"],
        Meta(
            description="of the active cells: all (each part that no face joins to the rest needs "
            "a "
            "Dirichlet or Robin side, a reaction or a ground of its own), or the largest part only"
        ),
    ] = "all"
    outside: Annotated[
        Choice | Outside,
        Meta(
            description="points, electrodes and wells in no active cell: refuse, snap to the "
            "nearest active cell, or drop; or one choice a kind. `check` and the run say how many "
            "and how far"
        ),
    ] = "refuse"


class DomainSection(Table, kw_only=True):
    """A domain that comes with the data."""

    mni152: Annotated[
        Literal["volume", "slice"] | None,
        Meta(
            description="'volume' or 'slice': the MNI152 brain in nilearn, 1 mm voxels"
        ),
    ] = None
    slice: Annotated[Index, Meta(description="axial voxel index of the slice")] = 80
    crop: Annotated[
        bool,
        Meta(description="leave out planes of voxels at the ends that hold no brain"),
    ] = False


class BoundaryKind(Table, kw_only=True):
    """A side with a coefficient."""

    kind: Annotated[
        Literal["neumann", "dirichlet", "robin", "periodic"],
        Meta(description="of the side"),
    ]
    coefficient: Annotated[
        NotNegative, Meta(description="of a Robin side", extra={"kinds": ("robin",)})
    ] = 0.0


Boundary = Literal["neumann", "dirichlet", "robin", "periodic"] | BoundaryKind


Boundaries = Annotated[
    dict[Side, Boundary],
    Meta(
        description="side = kind (neumann, dirichlet, robin, periodic; default neumann), or "
        "side = {kind = 'robin', coefficient = NUMBER}"
    ),
]
