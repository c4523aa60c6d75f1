"""Keys of [[experiment]], [electrodes], [[observation]], [simulation] and [misfit]."""

from typing import Annotated, Literal

from msgspec import Meta

from npde_opt.aliases import Record
from npde_opt.cases.field_tables import (
    FIELD_TABLES,
    Cells,
    Count,
    Field,
    File,
    Index,
    NotNegative,
    Place,
    Positive,
    Side,
)
from npde_opt.cases.term_tables import ExperimentSource, Numbers, Species, Timed
from npde_opt.cases.typed import Table

MOST_TABLES = 10_000


class Well(Table, kw_only=True):
    """A source on a patch."""

    at: Annotated[Place, Meta(description="coordinates of the centre")]
    rate: Annotated[float, Meta(description="integral of its source")]
    radius: Annotated[
        NotNegative, Meta(description="of the patch; 0 is the cell that holds it")
    ] = 0.0
    species: Species = None


class SideValue(Timed, kw_only=True):
    """A boundary value s(x, t) h(t)."""

    value: Annotated[
        float | str | Numbers,
        Meta(
            description="s: a number, text in x, y, z, t and coefficients, or a list with one "
            "value a cell of the side, x fastest"
        ),
    ]


BoundaryValue = float | str | Numbers | SideValue | File


class ExperimentSection(Table, kw_only=True):
    """What is done."""

    initial: Annotated[
        dict[str, str | float | FIELD_TABLES],
        Meta(
            description="species to text in x, y, z and coefficients, or a field, or a column of a "
            "text file, one value a cell, rows chosen by ranges: {file = 'a.csv', column = 'u', "
            "where = {t = [0, 0]}, scale = 1.0}; without [time] where Newton's method starts"
        ),
    ] = {}
    boundary: Annotated[
        dict[str, BoundaryValue | dict[Side, BoundaryValue]],
        Meta(
            description="side = u on Dirichlet sides, the outer u on Robin sides, the flux inwards "
            "on Neumann ones; or {species = {side = value}}. A value is a number, text in x, y, z "
            "(the middles of the faces), with [time] also t, and coefficients, which may be "
            "unknown; a list with one value a cell of the side, x fastest; {value, history, "
            "times}; or a text table {file, column} with columns of places (x, y, z) or times (t) "
            "or both, between which it is linear"
        ),
    ] = {}
    sources: Annotated[
        list[ExperimentSource], Meta(description="sources of this experiment")
    ] = []
    wells: Annotated[list[Well], Meta(description="wells of this experiment")] = []


class ElectrodesSection(Table, kw_only=True):
    """Patches that currents flow between: one experiment a pair."""

    count: Annotated[
        Annotated[int, Meta(ge=2)] | None,
        Meta(
            description="this many a ring, evenly around the outline of the active cells in an "
            "axial plane",
            extra={"not_with": ("at",)},
        ),
    ] = None
    rings: Annotated[
        Count,
        Meta(
            description="rings, evenly spaced in height over the active cells; 1 is in the middle "
            "of the box",
            extra={"needs": "count"},
        ),
    ] = 1
    at: Annotated[
        Annotated[list[Place], Meta(min_length=2)] | None,
        Meta(description="or their centres [[x, y, z], ...]"),
    ] = None
    radius: Annotated[NotNegative, Meta(description="of the patch")] = 0.0
    current: Annotated[float, Meta(description="that flows")] = 1.0
    pattern: Annotated[
        Literal["opposite", "adjacent"]
        | Annotated[
            list[tuple[Index, Index]], Meta(min_length=1, max_length=MOST_TABLES)
        ],
        Meta(
            description="pairs that the current flows between: opposite or adjacent ones, as many "
            "as electrodes, or a list [[from, to], ...] of their numbers from 0"
        ),
    ] = "opposite"


class SidePart(Table, kw_only=True):
    """A part of a side."""

    side: Annotated[Side, Meta(description="which")]
    lower: Annotated[Place | None, Meta(description="corner of the part")] = None
    upper: Annotated[Place | None, Meta(description="corner of the part")] = None


class Box(Table, kw_only=True):
    """A box."""

    lower: Annotated[Place, Meta(description="a corner")]
    upper: Annotated[Place, Meta(description="the other corner")]


class Ball(Table, kw_only=True):
    """A ball."""

    at: Annotated[Place, Meta(description="coordinates of the centre")]
    radius: Annotated[Positive, Meta(description="of the ball")]


class CountedTimes(Table, kw_only=True):
    """Equally spaced times."""

    count: Annotated[Count, Meta(description="how many")]
    start: Annotated[float, Meta(description="the first")]
    end: Annotated[float, Meta(description="the last")]


PLACES = (
    "points",
    "random",
    "electrodes",
    "sides",
    "boxes",
    "balls",
    "integrals",
    "regions",
)
"""Keys of [[observation]] that say where; of no more than one."""


def _place(key: str, description: str) -> Meta:
    """The meaning of a key that says where is observed."""
    others = tuple(name for name in PLACES if name != key)
    return Meta(description=description, extra={"not_with": others})


class ObservationSection(Table, kw_only=True):
    """What is seen of every experiment, at places of one kind; default: every cell of the grid."""

    points: Annotated[
        Annotated[list[Place], Meta(min_length=1)] | File | None,
        _place("points", "coordinates [[x, y], ...], or {file, ...}"),
    ] = None
    random: Annotated[
        Count | None,
        _place(
            "random",
            "this many points drawn uniformly over the places that are active on the case's grid "
            "and on the one that data are simulated on (seed)",
        ),
    ] = None
    electrodes: Annotated[
        bool,
        _place(
            "electrodes",
            "mean over every electrode; the two that carry current are left out, and so is what "
            "differs from them",
        ),
    ] = False
    sides: Annotated[
        list[Side | SidePart],
        _place(
            "sides",
            "means over sides of the box ('x-', Neumann or Robin) or parts of them",
        ),
    ] = []
    boxes: Annotated[list[Box], _place("boxes", "means over boxes")] = []
    balls: Annotated[list[Ball], _place("balls", "means over balls")] = []
    integrals: Annotated[
        list[Field], _place("integrals", "fields w: the integrals of w u")
    ] = []
    regions: Annotated[
        Field | None,
        _place(
            "regions", "a field of integers: averages over 0, 1, ...; -1 is in none"
        ),
    ] = None
    differences: Annotated[
        Annotated[list[tuple[Index, Index]], Meta(min_length=1)] | None,
        Meta(
            description="[[i, j], ...]: what is seen at the place i less that at j, numbered from "
            "0, in place of the values themselves"
        ),
    ] = None
    times: Annotated[
        Numbers | CountedTimes | File | None,
        Meta(
            description="with [time], and only there: a list, {start, end, count}, or "
            "{file, column, ...}"
        ),
    ] = None
    quantity: Annotated[
        str | None,
        Meta(
            description="what is seen of the species, e.g. 're**2 + im**2'; default: the first"
        ),
    ] = None
    data: Annotated[
        File | Annotated[list[File], Meta(min_length=1)] | None,
        Meta(
            description="measured values, NaN where not observed: {file, ...} with all "
            "experiments, [experiment, time, place], or a list with one an experiment; default: "
            "simulated from `truth`"
        ),
    ] = None
    sigma: Annotated[
        Positive | File | Annotated[list[File], Meta(min_length=1)] | None,
        Meta(
            description="standard deviation of a datum, or {file, ...} with one a datum, or a list "
            "with one file an experiment; default: noise * rms of the data, with [time] of each "
            "experiment's own; of the mean of replicates what their spread tells",
            extra={"not_with": ("noise",)},
        ),
    ] = None
    noise: Annotated[
        Positive | None,
        Meta(
            description="relative noise of simulated data, default 0.01; of measured ones only "
            "their sigma"
        ),
    ] = None
    add_noise: Annotated[
        bool,
        Meta(
            description="add noise to measured data too, for tests",
            extra={"needs": "data"},
        ),
    ] = False
    held_out: Annotated[
        bool,
        Meta(description="not fitted: reported, and in predicted.csv, as 'held out'"),
    ] = False
    unit: Annotated[str, Meta(description="for figures")] = ""


class SimulationSection(Table, kw_only=True):
    """How data are simulated."""

    refine: Annotated[
        Count,
        Meta(
            description="simulated data are made on a grid this many times finer than the one "
            "inverted, without [time] no finer than the domain's voxels"
        ),
    ] = 2
    shape: Annotated[
        Cells | None,
        Meta(
            description="or on a grid of these numbers of cells",
            extra={"not_with": ("refine",)},
        ),
    ] = None
    steps: Annotated[
        Count, Meta(description="with [time]: and with every step cut into so many")
    ] = 2


REGISTERED = {"kinds": ("registered",)}


class MisfitSection(Table, kw_only=True):
    """Noise model."""

    kind: Annotated[
        Literal[
            "least-squares",
            "huber",
            "student-t",
            "proportional",
            "correlated",
            "registered",
        ],
        Meta(description="noise model"),
    ] = "least-squares"
    threshold: Annotated[
        Positive,
        Meta(
            description="Huber: standard deviations up to which it is quadratic",
            extra={"kinds": ("huber",)},
        ),
    ] = 1.345
    nu: Annotated[
        Positive,
        Meta(
            description="Student-t: degrees of freedom", extra={"kinds": ("student-t",)}
        ),
    ] = 4.0
    power: Annotated[
        NotNegative,
        Meta(
            description="proportional: errors grow with this power of the prediction",
            extra={"kinds": ("proportional",)},
        ),
    ] = 1.0
    floor: Annotated[
        Positive | None,
        Meta(
            description="proportional: predictions smaller than this count as this; default: 1e-3 "
            "of the largest datum",
            extra={"kinds": ("proportional",)},
        ),
    ] = None
    correlation: Annotated[
        float,
        Meta(
            gt=-1,
            lt=1,
            description="correlated: of neighbouring times",
            extra={"kinds": ("correlated",)},
        ),
    ] = 0.5
    name: Annotated[
        str,
        Meta(
            description="registered: its name in the file of --module", extra=REGISTERED
        ),
    ] = ""
    options: Annotated[
        Record,
        Meta(
            description="registered: what it takes beside what all take",
            extra=REGISTERED,
        ),
    ] = {}
