"""Every key of a case file: section, key, type, default, unit and meaning. `document()` prints it as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from npde_opt.cases.conflicts import check_conflicts
from npde_opt.cases.field_tables import (
    AnatomyField,
    Cells,
    Contrast,
    Count,
    Expression,
    Field,
    File,
    FileField,
    Index,
    LognormalField,
    Names,
    NotNegative,
    Pair,
    Place,
    Positive,
    Side,
    Tissues,
    Value,
)
from npde_opt.cases.typed import Table, known_keys, read, rows_of, shown
from npde_opt.errors import InputError
from npde_opt.functions.text import check_name
from npde_opt.grids.locate import PLACES

PREFIXES = ("state_", "reg_", "tao_")
SIDES = ("x-", "x+", "y-", "y+", "z-", "z+")


# ---- sections ---------------------------------------------------------------------------------------------------


class CaseSection(Table, kw_only=True):
    """Names."""

    title: Annotated[str, Meta(description="one line for reports")] = ""
    length_unit: Annotated[str, Meta(description="unit of all lengths; files that name theirs are converted or refused")] = "m"


class Growing(Table, kw_only=True):
    """Edges from `origin`: `equal` cells of size `first`, then each `growth` times the one before."""

    first: Annotated[float, Meta(gt=0, description="size of the first cells")]
    equal: Annotated[Count, Meta(description="cells of that size")]
    growth: Annotated[float, Meta(gt=0, le=10, description="of each cell against the one before")]
    count: Annotated[Count, Meta(description="cells in all")]


class GridSection(Table, kw_only=True):
    """The grid that is inverted."""

    file: Annotated[str | None, Meta(description="a TOML file with keys of this section, beside the case; keys given here "
                                     "win")] = None
    shape: Annotated[Cells | None, Meta(description="cells along each axis; default: that of `domain`'s file divided by "
                                        "`coarsen`")] = None
    extent: Annotated[Annotated[list[Positive], Meta(min_length=1, max_length=3)] | None,
                      Meta(description="lengths along each axis; default 1 each, or the domain's")] = None
    origin: Annotated[Place | None, Meta(description="coordinates of the lower corner, also of `edges` that grow; "
                                         "default 0")] = None
    edges: Annotated[Annotated[list[Annotated[list[float], Meta(min_length=2)] | Growing], Meta(min_length=1, max_length=3)]
                     | None,
                     Meta(description="stretched grids, instead of shape and extent: an axis a list of n + 1 coordinates, or "
                          "{first, equal, growth, count}: `equal` cells of size `first`, then each `growth` times the one "
                          "before, `count` in all")] = None
    coarsen: Annotated[Count, Meta(description="cells of the domain's file merged along each axis")] = 1
    active: Annotated[Field | None, Meta(description="a field; cells where it exceeds 0.5 are active. Default: the domain's "
                                         "mask, else all")] = None
    keep: Annotated[Literal["all", "largest"],
                    Meta(description="of the active cells: all (each part that no face joins to the rest needs a Dirichlet "
                         "or Robin side, a reaction or a ground of its own), or the largest part only")] = "all"


class DomainSection(Table, kw_only=True):
    """A domain that comes with the data."""

    mni152: Annotated[Literal["volume", "slice"] | None,
                      Meta(description="'volume' or 'slice': the MNI152 brain in nilearn, 1 mm voxels")] = None
    slice: Annotated[Index, Meta(description="axial voxel index of the slice")] = 80
    crop: Annotated[bool, Meta(description="leave out planes of voxels at the ends that hold no brain")] = False


class BoundaryKind(Table, kw_only=True):
    """A side with a coefficient."""

    kind: Annotated[Literal["neumann", "dirichlet", "robin", "periodic"], Meta(description="of the side")]
    coefficient: Annotated[NotNegative, Meta(description="of a Robin side")] = 0.0


Boundary = Annotated[Literal["neumann", "dirichlet", "robin", "periodic"] | BoundaryKind,
                     Meta(description="a kind (neumann, dirichlet, robin, periodic) or "
                          "{kind = 'robin', coefficient = NUMBER}")]


class BoundariesSection(Table, kw_only=True):
    """Kinds of the sides."""

    x_low: Boundary = field(default="neumann", name="x-")
    x_high: Boundary = field(default="neumann", name="x+")
    y_low: Boundary = field(default="neumann", name="y-")
    y_high: Boundary = field(default="neumann", name="y+")
    z_low: Boundary = field(default="neumann", name="z-")
    z_high: Boundary = field(default="neumann", name="z+")


class Ground(Table, kw_only=True):
    """A conductance to potential 0."""

    at: Annotated[Place, Meta(description="coordinates of the centre")]
    radius: Annotated[NotNegative, Meta(description="of the patch")] = 0.0
    conductance: Annotated[Positive, Meta(description="current out of it for a potential of 1")]


class EquationSection(Table, kw_only=True):
    """-div(D grad u) + v.grad u + c u = f."""

    D: Annotated[Field | None, Meta(description="diffusivity or conductivity; leave out where it is unknown")] = None
    c: Annotated[Field | None, Meta(description="reaction; leave out for none, or where it is unknown")] = None
    anisotropy: Annotated[Names | None, Meta(description="names of one coefficient a direction, e.g. ['D_x', 'D_y'], in place "
                                             "of D; those not unknown are given in `known`")] = None
    known: Annotated[dict[str, Field], Meta(description="fields of the named coefficients that are known")] = {}
    velocity: Annotated[Place | None, Meta(description="constant advection velocity a direction")] = None
    ground: Annotated[Ground | None, Meta(description="reference potential 0 behind a conductance")] = None


class AnyUnknown(Table, kw_only=True):
    """What is sought, in steady and evolution cases."""

    transform: Annotated[Literal["identity", "log", "bounded"], Meta(description="what is optimized")] = "log"
    bounds: Annotated[Pair | None, Meta(description="[lower, upper] of the coefficient")] = None
    unit: Annotated[str, Meta(description="for figures")] = ""


class UnknownSection(AnyUnknown, kw_only=True):
    """What is sought."""

    name: Annotated[str, Meta(description="D, c or a name of `anisotropy`")]
    initial: Annotated[Field, Meta(description="the coefficient to start from")]
    regions: Annotated[Field | None, Meta(description="a field of integers 0, 1, ...: one constant a region")] = None
    truth: Annotated[Field | None,
                     Meta(description="the true coefficient, for simulated data and the error reported")] = None


class Well(Table, kw_only=True):
    """A source on a patch."""

    at: Annotated[Place, Meta(description="coordinates of the centre")]
    rate: Annotated[float, Meta(description="integral of its source")]
    radius: Annotated[NotNegative, Meta(description="of the patch; 0 is the cell that holds it")] = 0.0


class Electrodes(Table, kw_only=True):
    """Patches that currents flow between."""

    count: Annotated[Annotated[int, Meta(ge=2)] | None,
                     Meta(description="this many a ring, evenly around the outline of the active cells in an axial "
                          "plane")] = None
    rings: Annotated[Count, Meta(description="rings, evenly spaced in height over the active cells; 1 is in the middle of the "
                                 "box")] = 1
    at: Annotated[Annotated[list[Place], Meta(min_length=2)] | None,
                  Meta(description="or their centres [[x, y, z], ...]")] = None
    radius: Annotated[NotNegative, Meta(description="of the patch")] = 0.0
    current: Annotated[float, Meta(description="that flows")] = 1.0
    pattern: Annotated[Literal["opposite", "adjacent"], Meta(description="which electrode takes the current")] = "opposite"


class ExperimentsSection(Table, kw_only=True):
    """What is done."""

    boundary: Annotated[list[dict[Side, float]] | None, Meta(description="one table an experiment: side = value; experiments "
                                                                   "beyond the list have 0 everywhere")] = None
    source: Annotated[Field, Meta(description="f in every experiment")] = 0.0
    wells: Annotated[list[list[Well]] | File,
                     Meta(description="one list of wells an experiment, or {file, ...}: a text table with columns of "
                          "coordinates, rate, and perhaps radius and experiment (1, 2, ...)")] = []
    electrodes: Annotated[Electrodes | None,
                          Meta(description="one experiment an electrode: current in there, out at another one")] = None


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


class ObservationsSection(Table, kw_only=True):
    """What is seen of every experiment."""

    points: Annotated[Annotated[list[Place], Meta(min_length=1)] | File | None,
                      Meta(description="coordinates [[x, y], ...], or {file, ...}")] = None
    random: Annotated[Count | None,
                      Meta(description="this many points drawn uniformly over the places that are active on the case's grid and "
                           "on the one that data are simulated on (seed)")] = None
    at_electrodes: Annotated[bool, Meta(description="mean over every electrode; the two that carry current are left "
                                        "out")] = False
    sides: Annotated[list[Side | SidePart],
                     Meta(description="means over sides of the box ('x-', Neumann or Robin) or parts of them")] = []
    boxes: Annotated[list[Box], Meta(description="means over boxes")] = []
    balls: Annotated[list[Ball], Meta(description="means over balls")] = []
    integrals: Annotated[list[Field], Meta(description="fields w: the integrals of w u")] = []
    data: Annotated[File | None,
                    Meta(description="{file, ...}: measured values [experiment, observation], NaN where not observed; "
                         "observations in the order electrodes, points, sides, boxes, balls, integrals. Default: simulated "
                         "from `truth`")] = None
    sigma: Annotated[Positive | File | None, Meta(description="standard deviation of a datum, or {file, ...} with one a datum; "
                                                  "default, for simulated data: noise * rms")] = None
    noise: Annotated[Positive, Meta(description="relative noise of simulated data")] = 0.01
    add_noise: Annotated[bool, Meta(description="add noise to measured data too, for tests")] = False
    refine: Annotated[Count, Meta(description="simulated data are made on a grid this many times finer than the one inverted, "
                                  "but no finer than the domain's voxels")] = 2
    shape: Annotated[Cells | None,
                     Meta(description="simulated data are made on a grid of these numbers of cells instead")] = None
    unit: Annotated[str, Meta(description="for figures")] = ""


class AnyMisfit(Table, kw_only=True):
    """Noise models, in steady and evolution cases."""

    threshold: Annotated[Positive, Meta(description="Huber: standard deviations up to which it is quadratic")] = 1.345
    nu: Annotated[Positive, Meta(description="Student-t: degrees of freedom")] = 4.0


class MisfitSection(AnyMisfit, kw_only=True):
    """Noise model."""

    kind: Annotated[Literal["least-squares", "huber", "student-t"], Meta(description="noise model")] = "least-squares"


class AnyRegularization(Table, kw_only=True):
    """What is asked of an unknown field, in steady and evolution cases."""

    kind: Annotated[Literal["gradient", "bilaplacian", "total-variation"], Meta(description="regularizer")] = "gradient"
    weight: Annotated[NotNegative | Literal["discrepancy", "l-curve"],
                      Meta(description="a number, or 'discrepancy': the largest weight, in factors of 4, whose misfit reaches "
                           "the noise; or 'l-curve'")] = 1.0
    gamma: Annotated[Positive | None, Meta(description="bilaplacian: of the Laplacian")] = None
    delta: Annotated[Positive | None, Meta(description="bilaplacian: of the field")] = None
    correlation_length: Annotated[Positive | None,
                                  Meta(description="bilaplacian: with variance, instead of gamma and delta; of an axis "
                                       "with a factor in `directions`: times its root")] = None
    variance: Annotated[Positive | None,
                        Meta(description="bilaplacian: prior variance of a cell's parameter, the same in the middle, at sides "
                             "and on outlines (at weight 1; of the logarithm with the transform log)")] = None
    directions: Annotated[Annotated[list[Positive], Meta(min_length=1, max_length=3)] | None,
                          Meta(description="factors a direction (gradient, bilaplacian)")] = None
    epsilon: Annotated[Positive | None, Meta(description="total-variation: slope below which it is quadratic")] = None


class RegularizationSection(AnyRegularization, kw_only=True):
    """What is asked of an unknown field."""

    unknown: Annotated[str | None, Meta(description="which unknown; default: the first field")] = None
    reference: Annotated[Field | None, Meta(description="coefficient towards which it pulls; default: `initial`")] = None
    cell_weights: Annotated[Field | None, Meta(description="factor a cell (gradient, total-variation)")] = None


class OptimizerSection(Table, kw_only=True):
    """How it is sought."""

    method: Annotated[str, Meta(description="see --optimizer")] = "gauss-newton"
    max_iterations: Annotated[int, Meta(ge=0, le=1_000_000, description="a level")] = 50
    gradient_rtol: Annotated[NotNegative, Meta(description="stop at this times the initial gradient norm")] = 1e-6
    decrement: Annotated[Positive, Meta(description="converged: the objective is this near its minimum, in units of the "
                                        "noise (and the gradient test holds)")] = 1e-2
    insist: Annotated[bool | None,
                      Meta(description="go on past the gradient test while the objective is farther from "
                           "its minimum than `decrement`; false: stop there, NOT CONVERGED. Default: true, "
                           "but a `gradient_rtol` other than the default is obeyed")] = None
    levels: Annotated[Annotated[int, Meta(ge=1, le=30)] | None,
                      Meta(description="grids of nested iteration; default: as many as the grid coarsens into")] = None


SECTIONS: dict[str, type[Table]] = {
    "case": CaseSection, "grid": GridSection, "domain": DomainSection, "boundaries": BoundariesSection,
    "equation": EquationSection, "unknown": UnknownSection, "experiments": ExperimentsSection,
    "observations": ObservationsSection, "misfit": MisfitSection, "regularization": RegularizationSection,
    "optimizer": OptimizerSection}
LISTS = ("unknown", "regularization")
MOST_TABLES = 10_000


def validate(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The case with defaults filled in. Raises InputError naming the first key that is wrong."""
    out = read_sections(raw, SECTIONS, LISTS)
    if not out["unknown"]:
        raise InputError("unknown", "nothing", "at least one [[unknown]] table")
    for name in (*(out["equation"]["anisotropy"] or []), *out["equation"]["known"]):
        check_name(name, "equation: name")
    e = out["experiments"]["electrodes"]
    if e is not None and (e["count"] is None) == (e["at"] is None):
        raise InputError("experiments.electrodes", {k: e[k] for k in ("count", "at")},
                         "a count or a list `at` of 2 or more")
    if out["observations"]["sigma"] is not None and out["observations"]["data"] is None \
            and not isinstance(out["observations"]["sigma"], int | float):
        raise InputError("observations.sigma", "a file", "a number, where data are simulated")
    check_conflicts(raw, out)
    return out


def read_sections(raw: Mapping[str, Any], sections: Mapping[str, type[Table]], lists: tuple[str, ...]) -> dict[str, Any]:
    """All sections with defaults, and the options of PETSc."""
    known_keys("case file section", raw, [*sections, "petsc", *(["variables"] if "evolution" in sections else [])])
    out: dict[str, Any] = {}
    for section, table in sections.items():
        if section not in lists:
            out[section] = read(section, raw.get(section, {}), table)
            continue
        given = raw.get(section, [])
        tables = given if isinstance(given, list) else [given]
        if len(tables) > MOST_TABLES:
            raise InputError(section, f"{len(tables):,} tables", f"at most {MOST_TABLES:,}")
        out[section] = [read(f"{section}[{i}]", t, table) for i, t in enumerate(tables)]
    names = [u["name"] for u in out["unknown"]]
    for i, name in enumerate(names):
        check_name(name, f"unknown[{i}].name")
        if name in names[:i]:
            raise InputError(f"unknown[{i}].name", repr(name), "a name of its own for each unknown")
    out["petsc"] = _petsc(raw.get("petsc", {}))
    return out


def _petsc(given: Any) -> dict[str, str]:
    """PETSc options by name, without a dash."""
    if not isinstance(given, dict):
        raise InputError("petsc", shown(given), "a table")
    for name, value in given.items():
        plain = name.replace("_", "").isalnum() and name.isascii()
        if not plain or not name.startswith(PREFIXES) or isinstance(value, dict | list):
            raise InputError(f"petsc.{name}", shown(value), f"a value, and a name that starts with {', '.join(PREFIXES)}")
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in given.items()}


INNER = (Growing, BoundaryKind, Ground, Well, Electrodes, SidePart, Box, Ball)
FIELDS = (FileField, Expression, Value, AnatomyField, Tissues, LognormalField, Contrast)


def document() -> str:
    """The format of a case as a Markdown page."""
    lines = ["# The format of a case", "", "A case is a TOML file. A *field* is a number, or one of the tables of fields below, "
             "e.g. `{file = 'K.npy'}` or `{expression = 'exp(x)*y'}`; `scale` and then `clip` apply to its values. Relative "
             "files are looked for beside the case, then in `--data`.", "", PLACES, ""]
    for section, table in SECTIONS.items():
        lines += [f"## [[{section}]]" if section in LISTS else f"## [{section}]", "", *rows_of(table), ""]
    lines += ["## [petsc]", "", f"Options of PETSc without their dash, of the prefixes {', '.join(PREFIXES)}; the command "
              "line wins. For example `state_recipe = 'gamg'`.", "", "# Tables inside the sections", ""]
    lines += tables_of([*FIELDS, File, *INNER])
    return "\n".join(lines)


def tables_of(tables: list[type[Table]]) -> list[str]:
    """Tables inside sections, by their names."""
    lines = []
    for table in tables:
        lines += [f"## {table.__name__}", "", (table.__doc__ or "").strip().splitlines()[0], "", *rows_of(table), ""]
    return lines
