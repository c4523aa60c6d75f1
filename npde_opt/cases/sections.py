"""Every section of a case file: key, type, default, unit and meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from npde_opt.cases.field_tables import (
    FIELD_TABLES,
    Cells,
    Count,
    Field,
    File,
    Index,
    Names,
    NotNegative,
    Pair,
    Place,
    Positive,
    Side,
)
from npde_opt.cases.term_tables import Diffusion, ExperimentSource, Numbers, Species, Term
from npde_opt.cases.typed import Table

SIDES = ("x-", "x+", "y-", "y+", "z-", "z+")
MOST_TABLES = 10_000


# ---- [case], [grid], [domain], [boundaries] ---------------------------------------------------


class CaseSection(Table, kw_only=True):
    """Names and units."""

    title: Annotated[str, Meta(description="one line for reports")] = ""
    length_unit: Annotated[
        str,
        Meta(
            description="of all lengths: files that name another one are converted; and in figures"
        ),
    ] = "m"


class Growing(Table, kw_only=True):
    """Edges from `origin`: `equal` cells of size `first`, then each `growth` times the one
    before."""

    first: Annotated[float, Meta(gt=0, description="size of the first cells")]
    equal: Annotated[Count, Meta(description="cells of that size")]
    growth: Annotated[float, Meta(gt=0, le=10, description="of each cell against the one before")]
    count: Annotated[Count, Meta(description="cells in all")]


Edges = Annotated[list[float], Meta(min_length=2)] | Growing


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
        Meta(description="coordinates of the lower corner, also of `edges` that grow; default 0"),
    ] = None
    edges: Annotated[
        Annotated[list[Edges], Meta(min_length=1, max_length=3)] | None,
        Meta(
            description="stretched grids, instead of shape and extent: an axis a list of n + 1 "
            "coordinates, or {first, equal, growth, count}: `equal` cells of size `first`, then "
            "each "
            "`growth` times the one before, `count` in all",
            extra={"not_with": ("shape", "extent")},
        ),
    ] = None
    coarsen: Annotated[
        Count, Meta(description="cells of the domain's file merged along each axis")
    ] = 1
    active: Annotated[
        Field | None,
        Meta(
            description="a field; cells where it exceeds 0.5 are active. Default: the domain's "
            "mask, "
            "else all"
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


class DomainSection(Table, kw_only=True):
    """A domain that comes with the data."""

    mni152: Annotated[
        Literal["volume", "slice"] | None,
        Meta(description="'volume' or 'slice': the MNI152 brain in nilearn, 1 mm voxels"),
    ] = None
    slice: Annotated[Index, Meta(description="axial voxel index of the slice")] = 80
    crop: Annotated[
        bool, Meta(description="leave out planes of voxels at the ends that hold no brain")
    ] = False


class BoundaryKind(Table, kw_only=True):
    """A side with a coefficient."""

    kind: Annotated[
        Literal["neumann", "dirichlet", "robin", "periodic"], Meta(description="of the side")
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


# ---- [equation], [time] -----------------------------------------------------------------------


class EquationSection(Table, kw_only=True):
    """gamma du/dt + A u = kinetics + sources; without [time] the steady state, 0 in place of
    du/dt."""

    species: Annotated[
        Names,
        Meta(description="names of the state's components; ['re', 'im'] for a complex state"),
    ] = field(default_factory=lambda: ["u"])
    gamma: Annotated[
        float | str | None,
        Meta(
            description="of gamma du/dt = ...: a number (default 1), or 'i', or 'i*NUMBER' (2ik "
            "of a "
            "paraxial wave)"
        ),
    ] = None
    terms: Annotated[list[Term], Meta(description="tables, summed: the terms below")] = field(
        default_factory=lambda: [Diffusion(diffusion="D")]
    )
    known: Annotated[
        dict[str, Field], Meta(description="coefficients that are known: name = field")
    ] = {}
    derived: Annotated[
        dict[str, str],
        Meta(description="figures to report: name = text in scalar unknowns and known numbers"),
    ] = {}
    recipe: Annotated[str, Meta(description="of the linear solvers")] = "auto"


class EqualSteps(Table, kw_only=True):
    """Equal steps."""

    steps: Annotated[Count, Meta(description="their number")]
    end: Annotated[float, Meta(description="the last time")]
    start: Annotated[float, Meta(description="the first")] = 0.0


class DoublingSteps(Table, kw_only=True):
    """Steps that double."""

    first: Annotated[Positive, Meta(description="the first step")]
    repeats: Annotated[Count, Meta(description="steps of each size")] = 8
    end: Annotated[float, Meta(description="the last time")]
    start: Annotated[float, Meta(description="the first")] = 0.0


class AccurateSteps(Table, kw_only=True):
    """Equal steps, halved at the initial parameters until the data change by less."""

    tolerance: Annotated[Positive, Meta(description="change of the data, times their norm")]
    end: Annotated[float, Meta(description="the last time")]
    start: Annotated[float, Meta(description="the first")] = 0.0


Steps = Annotated[list[float], Meta(min_length=2)] | EqualSteps | DoublingSteps | AccurateSteps


class TimeSection(Table, kw_only=True):
    """How the state moves on; a case without this section is about the steady state."""

    times: Annotated[
        Steps,
        Meta(
            description="a list, {end, steps}, {end, first, repeats}: steps that double after so "
            "many, "
            "or {end, tolerance}: equal steps, halved at the initial parameters until the data "
            "change "
            "by less than this times their norm. Steps also end at the times of all observations "
            "and "
            "histories"
        ),
    ]
    scheme: Annotated[
        str,
        Meta(
            description="explicit-euler, heun, imex-euler, imex-theta, ars222, crank-nicolson, "
            "backward-euler"
        ),
    ] = "ars222"
    memory: Annotated[
        str,
        Meta(
            description="budget for trajectories of all ranks, e.g. '4GB'; default: all states are "
            "kept (--memory)"
        ),
    ] = ""
    axis: Annotated[
        str,
        Meta(
            description="name and unit of the variable t for figures, e.g. 't [h]', or 'z [um]' "
            "of a "
            "paraxial wave"
        ),
    ] = "t"
    bound: Annotated[
        Positive | None,
        Meta(
            description="a state larger than this is a blow-up; default: 1e30 times its start, "
            "boundary values and what its sources bring"
        ),
    ] = None


# ---- [[unknown]] ------------------------------------------------------------------------------


class UnknownSection(Table, kw_only=True):
    """What is sought."""

    name: Annotated[str, Meta(description="a coefficient of the terms, initial states or sources")]
    kind: Annotated[
        Literal["field", "scalar", "history"],
        Meta(
            description="a field (with `regions` one constant a region), a scalar, or a history of "
            "`length` values"
        ),
    ] = "field"
    transform: Annotated[
        Literal["identity", "log", "bounded"], Meta(description="what is optimized")
    ] = "log"
    bounds: Annotated[Pair | None, Meta(description="[lower, upper] of the coefficient")] = None
    initial: Annotated[
        float | Numbers | FIELD_TABLES,
        Meta(description="the value to start from: a number, a list (a history) or a field"),
    ]
    truth: Annotated[
        float | Numbers | FIELD_TABLES | None,
        Meta(description="the true value, for simulated data and the error reported"),
    ] = None
    regions: Annotated[
        Field | None,
        Meta(
            description="a field of integers 0, 1, ...: one constant a region",
            extra={"kinds": ("field",)},
        ),
    ] = None
    known: Annotated[
        Field | None,
        Meta(
            description="where it exceeds 0.5 the unknown is known and keeps `initial`",
            extra={"kinds": ("field",)},
        ),
    ] = None
    length: Annotated[
        Count | None, Meta(description="values of a history", extra={"kinds": ("history",)})
    ] = None
    deviation: Annotated[
        Annotated[float, Meta(ge=1e-100, le=1e100)] | None,
        Meta(
            description="scalars, histories and constants of regions: standard deviation of a "
            "normal "
            "prior of the parameter around its initial value, of its logarithm with the transform "
            "log"
        ),
    ] = None
    smoothness: Annotated[
        float,
        Meta(
            ge=0,
            le=1e100,
            description="histories: weight of the squared differences between neighbouring values, "
            "each over the distance of their times (in units of the mean distance: 1 where they "
            "are "
            "equally spaced), beside the deviation",
        ),
    ] = 0.0
    unit: Annotated[str, Meta(description="for figures")] = ""


# ---- [[experiment]], [electrodes], [wells] ----------------------------------------------------


class Well(Table, kw_only=True):
    """A source on a patch."""

    at: Annotated[Place, Meta(description="coordinates of the centre")]
    rate: Annotated[float, Meta(description="integral of its source")]
    radius: Annotated[
        NotNegative, Meta(description="of the patch; 0 is the cell that holds it")
    ] = 0.0
    species: Species = None


class ExperimentSection(Table, kw_only=True):
    """What is done."""

    initial: Annotated[
        dict[str, str | float | FIELD_TABLES],
        Meta(
            description="species to text in x, y, z and coefficients, or a field, or a column of a "
            "text file, one value a cell, rows chosen by ranges: {file = 'a.csv', column = 'u', "
            "where = "
            "{t = [0, 0]}, scale = 1.0}; without [time] where Newton's method starts"
        ),
    ] = {}
    boundary: Annotated[
        dict[str, float | dict[Side, float]],
        Meta(
            description="side = value on Dirichlet and Robin sides, without [time] the flux "
            "inwards on "
            "Neumann ones; or {species = {side = value}}"
        ),
    ] = {}
    sources: Annotated[list[ExperimentSource], Meta(description="sources of this experiment")] = []
    wells: Annotated[list[Well], Meta(description="wells of this experiment")] = []


class ElectrodesSection(Table, kw_only=True):
    """Patches that currents flow between: one experiment a pair."""

    count: Annotated[
        Annotated[int, Meta(ge=2)] | None,
        Meta(
            description="this many a ring, evenly around the outline of the active cells in an "
            "axial "
            "plane",
            extra={"not_with": ("at",)},
        ),
    ] = None
    rings: Annotated[
        Count,
        Meta(
            description="rings, evenly spaced in height over the active cells; 1 is in the middle "
            "of "
            "the box",
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
        | Annotated[list[tuple[Index, Index]], Meta(min_length=1, max_length=MOST_TABLES)],
        Meta(
            description="pairs that the current flows between: opposite or adjacent ones, as many "
            "as "
            "electrodes, or a list [[from, to], ...] of their numbers from 0"
        ),
    ] = "opposite"


# ---- [[observation]], [simulation], [misfit] --------------------------------------------------


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


PLACES = ("points", "random", "electrodes", "sides", "boxes", "balls", "integrals", "regions")
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
            "and "
            "on the one that data are simulated on (seed)",
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
        _place("sides", "means over sides of the box ('x-', Neumann or Robin) or parts of them"),
    ] = []
    boxes: Annotated[list[Box], _place("boxes", "means over boxes")] = []
    balls: Annotated[list[Ball], _place("balls", "means over balls")] = []
    integrals: Annotated[list[Field], _place("integrals", "fields w: the integrals of w u")] = []
    regions: Annotated[
        Field | None,
        _place("regions", "a field of integers: averages over 0, 1, ...; -1 is in none"),
    ] = None
    differences: Annotated[
        Annotated[list[tuple[Index, Index]], Meta(min_length=1)] | None,
        Meta(
            description="[[i, j], ...]: what is seen at the place i less that at j, numbered from "
            "0, "
            "in place of the values themselves"
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
        Meta(description="what is seen of the species, e.g. 're**2 + im**2'; default: the first"),
    ] = None
    data: Annotated[
        File | Annotated[list[File], Meta(min_length=1)] | None,
        Meta(
            description="measured values, NaN where not observed: {file, ...} with all "
            "experiments, "
            "[experiment, time, place], or a list with one an experiment; default: simulated from "
            "`truth`"
        ),
    ] = None
    sigma: Annotated[
        Positive | File | Annotated[list[File], Meta(min_length=1)] | None,
        Meta(
            description="standard deviation of a datum, or {file, ...} with one a datum, or a list "
            "with one file an experiment; default: noise * rms of the data, with [time] of each "
            "experiment's own",
            extra={"not_with": ("noise",)},
        ),
    ] = None
    noise: Annotated[
        Positive | None,
        Meta(
            description="relative noise of simulated data, default 0.01; of measured ones only "
            "their "
            "sigma"
        ),
    ] = None
    add_noise: Annotated[
        bool,
        Meta(description="add noise to measured data too, for tests", extra={"needs": "data"}),
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
        Meta(description="or on a grid of these numbers of cells", extra={"not_with": ("refine",)}),
    ] = None
    steps: Annotated[
        Count, Meta(description="with [time]: and with every step cut into so many")
    ] = 2


class MisfitSection(Table, kw_only=True):
    """Noise model."""

    kind: Annotated[
        Literal["least-squares", "huber", "student-t", "proportional", "correlated"],
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
        Positive, Meta(description="Student-t: degrees of freedom", extra={"kinds": ("student-t",)})
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
            "of "
            "the largest datum",
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


# ---- [[regularization]], [optimizer] ----------------------------------------------------------


BILAPLACIAN = {"kinds": ("bilaplacian",)}


class RegularizationSection(Table, kw_only=True):
    """What is asked of an unknown field."""

    unknown: Annotated[str | None, Meta(description="which unknown; default: the first field")] = (
        None
    )
    kind: Annotated[
        Literal["gradient", "bilaplacian", "total-variation"], Meta(description="regularizer")
    ] = "gradient"
    weight: Annotated[
        NotNegative | Literal["discrepancy", "l-curve"],
        Meta(
            description="a number, or 'discrepancy': the largest weight, in factors of 4, whose "
            "misfit "
            "reaches the noise; or 'l-curve'"
        ),
    ] = 1.0
    reference: Annotated[
        Field | None, Meta(description="coefficient towards which it pulls; default: `initial`")
    ] = None
    cell_weights: Annotated[
        Field | None,
        Meta(
            description="factor a cell (gradient, total-variation)",
            extra={"kinds": ("gradient", "total-variation")},
        ),
    ] = None
    gamma: Annotated[
        Positive | None, Meta(description="bilaplacian: of the Laplacian", extra=BILAPLACIAN)
    ] = None
    delta: Annotated[
        Positive | None, Meta(description="bilaplacian: of the field", extra=BILAPLACIAN)
    ] = None
    correlation_length: Annotated[
        Positive | None,
        Meta(
            description="bilaplacian: with variance, instead of gamma and delta; of an axis with a "
            "factor in `directions`: times its root",
            extra=BILAPLACIAN,
        ),
    ] = None
    variance: Annotated[
        Positive | None,
        Meta(
            description="bilaplacian: prior variance of a cell's parameter, the same in the "
            "middle, at "
            "sides and on outlines (at weight 1; of the logarithm with the transform log)",
            extra=BILAPLACIAN,
        ),
    ] = None
    directions: Annotated[
        Annotated[list[Positive], Meta(min_length=1, max_length=3)] | None,
        Meta(
            description="factors a direction (gradient, bilaplacian)",
            extra={"kinds": ("gradient", "bilaplacian")},
        ),
    ] = None
    epsilon: Annotated[
        Positive | None,
        Meta(
            description="total-variation: slope below which it is quadratic",
            extra={"kinds": ("total-variation",)},
        ),
    ] = None


class OptimizerSection(Table, kw_only=True):
    """How it is sought."""

    method: Annotated[str, Meta(description="see --optimizer")] = "gauss-newton"
    max_iterations: Annotated[int, Meta(ge=0, le=1_000_000, description="a level")] = 50
    gradient_rtol: Annotated[
        NotNegative, Meta(description="stop at this times the initial gradient norm")
    ] = 1e-6
    gradient_atol: Annotated[
        NotNegative, Meta(description="or where the gradient norm is no larger than this")
    ] = 0.0
    decrement: Annotated[
        Positive,
        Meta(
            description="converged: the objective is this near its minimum, in units of the noise "
            "(and "
            "the gradient test holds)"
        ),
    ] = 1e-2
    insist: Annotated[
        bool | None,
        Meta(
            description="go on past the gradient test while the objective is farther from its "
            "minimum "
            "than `decrement`; false: stop there, NOT CONVERGED. Default: true, but a tolerance "
            "other "
            "than the default is obeyed"
        ),
    ] = None
    levels: Annotated[
        Annotated[int, Meta(ge=1, le=30)] | None,
        Meta(
            description="grids of nested iteration; default: as many as the grid coarsens into, "
            "with "
            "[time] one"
        ),
    ] = None
    memory: Annotated[Count, Meta(description="quasi-Newton methods: pairs that are kept")] = 10
    cg_max: Annotated[Count, Meta(description="Newton methods: steps of the inner CG at most")] = (
        200
    )
    forcing_max: Annotated[
        float,
        Meta(gt=0, lt=1, description="Newton methods: relative residual of the inner CG at most"),
    ] = 0.5
    reorthogonalize: Annotated[
        bool, Meta(description="Newton methods: keep all directions of the inner CG conjugate")
    ] = True
    learnt: Annotated[
        Index,
        Meta(
            description="nested iteration: products with a coarse grid's Hessian that may be "
            "spent on "
            "preconditioning finer ones"
        ),
    ] = 100
    gauss_newton: Annotated[bool, Meta(description="bntr: the Gauss-Newton Hessian")] = False


# ---- the file ---------------------------------------------------------------------------------


Many = Meta(max_length=MOST_TABLES)


class CaseFile(Table, kw_only=True):
    """A case."""

    case: CaseSection = field(default_factory=CaseSection)
    variables: Annotated[
        dict[str, str | float],
        Meta(description="values that replace {NAME} in texts, and that --set NAME=VALUE changes"),
    ] = {}
    grid: GridSection = field(default_factory=GridSection)
    domain: DomainSection = field(default_factory=DomainSection)
    boundaries: Boundaries = {}
    equation: EquationSection = field(default_factory=EquationSection)
    time: TimeSection | None = None
    unknown: Annotated[list[UnknownSection], Many] = []
    experiment: Annotated[list[ExperimentSection], Many] = []
    electrodes: ElectrodesSection | None = None
    wells: Annotated[
        File | None,
        Meta(
            description="a text table {file, ...} with columns of coordinates, rate, and perhaps "
            "radius and experiment (1, 2, ...): one experiment a number"
        ),
    ] = None
    observation: Annotated[list[ObservationSection], Many] = []
    simulation: SimulationSection = field(default_factory=SimulationSection)
    misfit: MisfitSection = field(default_factory=MisfitSection)
    regularization: Annotated[list[RegularizationSection], Many] = []
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    petsc: Annotated[
        dict[str, Any],
        Meta(
            description="options of PETSc without their dash, of the prefixes state_, reg_, tao_; "
            "the "
            "command line wins. For example state_recipe = 'gamg'"
        ),
    ] = {}
