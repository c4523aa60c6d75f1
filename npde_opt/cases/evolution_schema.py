"""Every key of the sections that a case of an evolution equation has beside those of a steady one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from npde_opt.cases.conflicts import check_conflicts
from npde_opt.cases.field_tables import (
    AnatomyField,
    Count,
    Expression,
    File,
    FileField,
    LognormalField,
    Names,
    NotNegative,
    Pair,
    Place,
    Positive,
    Side,
    Value,
)
from npde_opt.cases.schema import (
    SECTIONS,
    AnyMisfit,
    AnyRegularization,
    AnyUnknown,
    read_sections,
    tables_of,
)
from npde_opt.cases.typed import Optional, Table, read, rows_of, shown
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions, check_name

# ---- fields and histories ---------------------------------------------------------------------------------------


class PictureField(Optional, kw_only=True):
    """A grey picture."""

    picture: Annotated[str, Meta(description="a name of scikit-image's pictures ('camera'), or a file")]
    range: Annotated[Pair | None, Meta(description="[black, white]; default 0 to 1")] = None
    box: Annotated[tuple[Pair, Pair] | None,
                   Meta(description="[[x0, x1], [y0, y1]] that it covers; default the grid's; black outside")] = None


FIELD_TABLES = FileField | Expression | Value | AnatomyField | LognormalField | PictureField
Field = float | FIELD_TABLES
Numbers = Annotated[list[float], Meta(min_length=1)]
Interpolation = Literal["linear", "steps"]
ONE = "which, where there are several"
HISTORY = "an unknown history, or values at `times`: factors of the shape; default: constant"
HISTORY_TIMES = "of the history, increasing; some of them within those of the steps"
INTERPOLATION = ("linear: between the times; before the first the first value holds, after the last the last one. steps: each "
                 "value holds until the next time, the first one before its time too, the last one to the end; n values and "
                 "n + 1 times: each holds between two times, and outside of them the source is 0")


class SourceTable(Table, kw_only=True):
    """A source of one experiment."""

    shape: Annotated[str | float, Meta(description="text in x, y, z and coefficients")]
    history: Annotated[str | Numbers | File | None, Meta(description=HISTORY)] = None
    times: Annotated[list[float] | File, Meta(description=HISTORY_TIMES)] = []
    interpolation: Annotated[Interpolation, Meta(description=INTERPOLATION)] = "linear"
    species: Annotated[str | None, Meta(description=ONE)] = None


# ---- terms ------------------------------------------------------------------------------------------------------


class Diffusion(Optional, kw_only=True):
    """-div(D grad u)."""

    diffusion: Annotated[str | Names, Meta(description="a coefficient's name, or one a direction")]
    species: Annotated[str | None, Meta(description=ONE)] = None


class NonlinearDiffusion(Optional, kw_only=True):
    """-div(D(u, g) grad u), g = |grad u|."""

    text: Annotated[str, Meta(description="D(u, g), or porous-fisher, perona-malik")] = field(name="nonlinear-diffusion")
    floor: Annotated[float | None, Meta(description="u is not taken smaller than this")] = None
    species: Annotated[str | None, Meta(description=ONE)] = None


class Advection(Optional, kw_only=True):
    """v.grad u."""

    advection: Annotated[Place, Meta(description="the velocity")]
    scheme: Annotated[Literal["upwind", "central"], Meta(description="of the differences")] = "upwind"
    species: Annotated[str | None, Meta(description=ONE)] = None


class Reaction(Optional, kw_only=True):
    """c u, added to A."""

    reaction: Annotated[str, Meta(description="a coefficient's name, or text in coefficients: 'k**2*(1 - n**2)'")]
    species: Annotated[str | None, Meta(description=ONE)] = None


class Absorbing(Optional, kw_only=True):
    """Layers that absorb waves."""

    absorbing: Annotated[dict[Side, Positive], Meta(description="side = width")]
    speed: Annotated[Positive, Meta(description="of the waves")] = 1.0
    depth: Annotated[Positive, Meta(description="of the layer in e-foldings")] = 5.0


class Kinetics(Optional, kw_only=True):
    """Reactions."""

    kinetics: Annotated[str | dict[str, str], Meta(description="a model's name, or {species = text}")]


class Source(Optional, kw_only=True):
    """s(x) h(t)."""

    source: Annotated[str | float, Meta(description="its shape, text in x, y, z and coefficients")]
    history: Annotated[str | Numbers | File | None, Meta(description=HISTORY)] = None
    times: Annotated[list[float] | File, Meta(description=HISTORY_TIMES)] = []
    interpolation: Annotated[Interpolation, Meta(description=INTERPOLATION)] = "linear"
    species: Annotated[str | None, Meta(description=ONE)] = None


Term = Diffusion | NonlinearDiffusion | Advection | Reaction | Absorbing | Kinetics | Source


# ---- times ------------------------------------------------------------------------------------------------------


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


class CountedTimes(Table, kw_only=True):
    """Equally spaced times."""

    count: Annotated[Count, Meta(description="how many")]
    start: Annotated[float, Meta(description="the first")]
    end: Annotated[float, Meta(description="the last")]


# ---- sections ---------------------------------------------------------------------------------------------------


class EvolutionSection(Table, kw_only=True):
    """gamma du/dt + A u = kinetics + sources."""

    species: Annotated[Names, Meta(description="names of the state's components; ['re', 'im'] for a complex state")] \
        = field(default_factory=lambda: ["u"])
    gamma: Annotated[float | str,
                     Meta(description="of gamma du/dt = ...: a number, or 'i', or 'i*NUMBER' (2ik of a paraxial wave)")] = 1.0
    terms: Annotated[list[Term], Meta(description="tables, summed: the terms below")]
    known: Annotated[dict[str, Field], Meta(description="coefficients that are known")] = {}
    scheme: Annotated[str, Meta(description="explicit-euler, heun, imex-euler, imex-theta, ars222, crank-nicolson, "
                                "backward-euler")] = "ars222"
    times: Annotated[Annotated[list[float], Meta(min_length=2)] | EqualSteps | DoublingSteps | AccurateSteps,
                     Meta(description="a list, {end, steps}, {end, first, repeats}: steps that double after so many, or "
                          "{end, tolerance}: equal steps, halved at the initial parameters until the data change by less "
                          "than this times their norm. Steps also end at the times of all observations and histories")]
    derived: Annotated[dict[str, str],
                       Meta(description="figures to report: name = text in scalar unknowns and known numbers")] = {}
    recipe: Annotated[str, Meta(description="of the linear solvers")] = "auto"
    memory: Annotated[str, Meta(description="budget for trajectories of all ranks, e.g. '4GB'; default: all states are kept "
                                "(--memory)")] = ""
    axis: Annotated[str, Meta(description="name and unit of the variable t for figures, e.g. 't [h]', or 'z [um]' of a paraxial "
                              "wave")] = "t"
    bound: Annotated[Positive | None, Meta(description="a state larger than this is a blow-up; default: 1e30 times its start, "
                                           "boundary values and what its sources bring")] = None


class EvolutionUnknown(AnyUnknown, kw_only=True):
    """What is sought."""

    name: Annotated[str, Meta(description="a coefficient of the terms, initial states or sources")]
    initial: Annotated[float | Numbers | FIELD_TABLES,
                       Meta(description="the value to start from: a number, a list (a history) or a field")]
    truth: Annotated[float | Numbers | FIELD_TABLES | None,
                     Meta(description="the true value, for simulated data and the error reported")] = None
    regions: Annotated[Field | None, Meta(description="a field of integers 0, 1, ...: one constant a region")] = None
    kind: Annotated[Literal["field", "scalar", "history"],
                    Meta(description="a field (with `regions` one constant a region), a scalar, or a history of `length` "
                         "values")] = "field"
    length: Annotated[Count | None, Meta(description="values of a history")] = None
    known: Annotated[Field | None,
                     Meta(description="fields: where it exceeds 0.5 the unknown is known and keeps `initial`")] = None
    deviation: Annotated[Annotated[float, Meta(ge=1e-100, le=1e100)] | None,
                         Meta(description="scalars, histories and constants of regions: standard deviation of a normal prior of "
                              "the parameter around its initial value, of its logarithm with the transform log")] = None
    smoothness: Annotated[float, Meta(ge=0, le=1e100, description="histories: weight of the squared differences between "
                                      "neighbouring values, each over the distance of their times (in units of the mean "
                                      "distance: 1 where they are equally spaced), beside the deviation")] = 0.0


class ExperimentSection(Table, kw_only=True):
    """What is done."""

    initial: Annotated[dict[str, str | float | FIELD_TABLES],
                       Meta(description="species to text in x, y, z and coefficients, or a field, or a column of a text file, "
                            "one value a cell, rows chosen by ranges: {file = 'a.csv', column = 'u', where = {t = [0, 0]}, "
                            "scale = 1.0}")] = {}
    boundary: Annotated[dict[str, float | dict[Side, float]],
                        Meta(description="side = value on Dirichlet and Robin sides, or {species = {side = value}}")] = {}
    sources: Annotated[list[SourceTable], Meta(description="sources of this experiment")] = []


class ObservationSection(Table, kw_only=True):
    """What is seen of every experiment."""

    times: Annotated[Numbers | CountedTimes | File,
                     Meta(description="a list, {start, end, count}, or {file, column, ...}")]
    points: Annotated[Annotated[list[Place], Meta(min_length=1)] | File | None,
                      Meta(description="coordinates, or {file, ...}; default: every cell of the case's grid")] = None
    regions: Annotated[Field | None,
                       Meta(description="a field of integers: averages over 0, 1, ...; -1 is in none")] = None
    quantity: Annotated[str, Meta(description="what is seen of the species, e.g. 're**2 + im**2'")] = "u"
    data: Annotated[Annotated[list[File], Meta(min_length=1)] | None,
                    Meta(description="one {file, ...} an experiment, ordered by time and place; default: simulated")] = None
    sigma: Annotated[Positive | File | Annotated[list[File], Meta(min_length=1)] | None,
                     Meta(description="standard deviation, or {file, ...} with one a datum (a list: one file an experiment); "
                          "default: noise * rms of the data")] = None
    noise: Annotated[Positive, Meta(description="relative noise of simulated data; of measured ones only their sigma")] = 0.01
    add_noise: Annotated[bool, Meta(description="add noise to measured data too, for tests")] = False


class EvolutionMisfit(AnyMisfit, kw_only=True):
    """Noise model."""

    kind: Annotated[Literal["least-squares", "huber", "student-t", "proportional", "correlated"],
                    Meta(description="noise model")] = "least-squares"
    power: Annotated[NotNegative, Meta(description="proportional: errors grow with this power of the prediction")] = 1.0
    floor: Annotated[Positive | None, Meta(description="proportional: predictions smaller than this count as this; default: "
                                           "1e-3 of the largest datum")] = None
    correlation: Annotated[float, Meta(gt=-1, lt=1, description="correlated: of neighbouring times")] = 0.5


class SimulationSection(Table, kw_only=True):
    """How data are simulated."""

    refine: Annotated[Count, Meta(description="simulated data are made on a grid this many times finer")] = 2
    steps: Annotated[Count, Meta(description="and with every step cut into so many")] = 2


class EvolutionRegularization(AnyRegularization, kw_only=True):
    """What is asked of an unknown field."""

    unknown: Annotated[str, Meta(description="which unknown field")]
    reference: Annotated[Field | None, Meta(description="coefficient towards which it pulls; default: `initial`")] = None
    cell_weights: Annotated[Field | None, Meta(description="factor a cell (gradient, total-variation)")] = None


SHARED = ("case", "grid", "domain", "boundaries", "optimizer")
EVOLUTION: dict[str, type[Table]] = {
    "evolution": EvolutionSection, "unknown": EvolutionUnknown, "experiment": ExperimentSection,
    "observation": ObservationSection, "misfit": EvolutionMisfit, "simulation": SimulationSection,
    "regularization": EvolutionRegularization}
LISTS = ("unknown", "experiment", "observation", "regularization")


def validate_evolution(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The case with defaults filled in. Raises InputError naming the first key that is wrong."""
    out = read_sections(raw, {s: SECTIONS[s] for s in SHARED} | EVOLUTION, LISTS)
    for section in ("unknown", "observation"):
        if not out[section]:
            raise InputError(section, "nothing", f"at least one [[{section}]] table")
    out["experiment"] = out["experiment"] or [read("experiment", {}, ExperimentSection)]
    _check_names(out)
    _check_values(out)
    check_conflicts(raw, out)
    return out


def _check_names(out: dict[str, Any]) -> None:
    species = out["evolution"]["species"]
    for i, name in enumerate(species):
        check_name(name, f"evolution.species[{i}]")
        if name in species[:i]:
            raise InputError(f"evolution.species[{i}]", repr(name), "a name of its own for each species")
    for name in out["evolution"]["known"]:
        check_name(name, "evolution.known: name")
    for key, names in (("evolution.known", out["evolution"]["known"]), ("unknown", [u["name"] for u in out["unknown"]])):
        for name in names:
            if name in species:
                raise InputError(f"{key}.{name}", "the name of a species", "another name: texts would see the species only")
    for e, x in enumerate(out["experiment"]):
        for name in x["initial"]:
            if name not in species:
                raise InputError(f"experiment[{e}].initial", shown(name), "species " + ", ".join(species))


def _check_values(out: dict[str, Any]) -> None:
    """Values that go together."""
    for i, o in enumerate(out["observation"]):
        if isinstance(o["sigma"], dict | list) and o["data"] is None:
            raise InputError(f"observation[{i}].sigma", "a file", "a number, where data are simulated")
        if o["data"] is not None and len(o["data"]) != len(out["experiment"]):
            raise InputError(f"observation[{i}].data", f"{len(o['data'])} files",
                             f"{len(out['experiment'])}, one an experiment")
    if out["misfit"]["kind"] == "correlated" and len(out["observation"]) > 1:
        raise InputError("misfit.kind", "'correlated' with several observations", "one [[observation]], or another kind")
    unknown = {u["name"]: u for u in out["unknown"]}
    fields = [name for name, u in unknown.items() if u["kind"] == "field" and u["regions"] is None]
    for i, r in enumerate(out["regularization"]):
        if r["unknown"] not in fields:
            raise InputError(f"regularization[{i}].unknown", repr(r["unknown"]),
                             "an unknown field without regions: " + (", ".join(fields) or "there is none"))
        if r["unknown"] in [before["unknown"] for before in out["regularization"][:i]]:
            raise InputError(f"regularization[{i}].unknown", f"{r['unknown']!r} again", "one table an unknown")
    known = out["evolution"]["known"]
    for name, u in unknown.items():
        if name in known:
            raise InputError(f"unknown.{name}", "known too", "a coefficient that is not in evolution.known")
        if u["smoothness"] > 0 and u["kind"] != "history":
            raise InputError(f"unknown.{name}.smoothness", u["smoothness"],
                             f"0 with kind {u['kind']!r}: only the values of a history have neighbours")
        if u["deviation"] is not None and name in fields:
            raise InputError(f"unknown.{name}.deviation", u["deviation"],
                             "none with a field, whose prior is a [[regularization]]")
        if u["kind"] == "history" and u["length"] is None:
            raise InputError(f"unknown.{name}.length", "nothing", "the number of a history's values")
    _check_derived(out["evolution"]["derived"], unknown, known)


def _check_derived(derived: Mapping[str, str], unknown: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    scalars = {n for n, u in unknown.items() if u["kind"] == "scalar"}
    scalars |= {n for n, v in known.items() if isinstance(v, int | float)}
    for name, text in derived.items():
        said = "the scalars " + (", ".join(sorted(scalars)) or "(there is none)")
        Expressions([text], (), f"evolution.derived.{name}").check_names(scalars, said)


def substitute(raw: Any, variables: Mapping[str, Any]) -> Any:
    """The tables with {NAME} in texts replaced by the values of variables."""
    if isinstance(raw, dict):
        return {k: substitute(v, variables) for k, v in raw.items()}
    if isinstance(raw, list):
        return [substitute(v, variables) for v in raw]
    if isinstance(raw, str):
        for name, value in variables.items():
            raw = raw.replace("{" + name + "}", str(value))
    return raw


INNER = (Diffusion, NonlinearDiffusion, Advection, Reaction, Absorbing, Kinetics, Source, EqualSteps, DoublingSteps,
         AccurateSteps, CountedTimes, SourceTable, FileField, PictureField)


def document_evolution() -> str:
    """The keys of an evolution case as a Markdown page."""
    lines = ["# The format of an evolution case", "", "Sections that differ from those of a steady case, whose `[case]`, "
             "`[grid]`, `[domain]`, `[boundaries]`, `[optimizer]` and `[petsc]` it shares, and its tables of fields. "
             "`[variables]` holds names and values that replace {NAME} in texts, and that --set NAME=VALUE changes.", ""]
    for section, table in EVOLUTION.items():
        lines += [f"## [[{section}]]" if section in LISTS else f"## [{section}]", "", *rows_of(table), ""]
    lines += ["# Tables inside the sections", "", *tables_of(list(INNER))]
    return "\n".join(lines)
