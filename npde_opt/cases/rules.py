"""What keys of different sections of a case say of each other: `validated` gives a case that makes
sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from npde_opt.aliases import Plain, Record
from npde_opt.cases import learned
from npde_opt.cases.equation_tables import TimeSection
from npde_opt.cases.experiment_tables import (
    BoundaryValue,
    ExperimentSection,
    ObservationSection,
    SideValue,
)
from npde_opt.cases.field_tables import File
from npde_opt.cases.quantities import check_quantities
from npde_opt.cases.replicates import check_replicates
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sought_tables import UnknownSection
from npde_opt.cases.term_tables import AnySource, Source, Timed
from npde_opt.cases.typed import as_dict, known_keys, read, shown
from npde_opt.errors import InputError
from npde_opt.functions.parser import check_name
from npde_opt.functions.text import Expressions

PREFIXES = ("state_", "reg_", "tao_")


def validated(raw: Mapping[str, Plain]) -> CaseFile:
    """The case with defaults filled in. Raises InputError naming the first key that is wrong."""
    table: CaseFile = read("", raw, CaseFile)
    check_petsc(table.petsc)
    _check_grid(table, raw)
    _check_names(table)
    _check_unknowns(table)
    _check_regularization(table)
    _check_experiments(table, raw)
    _check_observations(table)
    _check_simulation(table, raw)
    if table.time is None:
        _check_steady(table)
    elif table.equation.mean is not None:
        raise InputError(
            "equation.mean", table.equation.mean, "no mean with a section [time]"
        )
    else:
        _check_precision(table.time)
    _check_derived(table)
    check_quantities(table)
    _check_restarts(table, raw)
    _check_own_optimizer(table, raw)
    return table


def check_identifiable(table: CaseFile) -> None:
    """Raises InputError for a case without unknowns or observations, which can only be
    simulated."""
    for key, given in (("unknown", table.unknown), ("observation", table.observation)):
        if not given:
            said = f"at least one [[{key}]] table (drivers/simulate.py needs none)"
            raise InputError(key, "nothing", said)


# ---- [petsc], [grid] ---------------------------------------------------------------------------


def check_petsc(options: Record) -> None:
    """Options by name, without a dash, become texts."""
    for name, value in options.items():
        plain = name.replace("_", "").isalnum() and name.isascii()
        if not plain or not name.startswith(PREFIXES) or isinstance(value, dict | list):
            allowed = f"a value, and a name that starts with {', '.join(PREFIXES)}"
            raise InputError(f"petsc.{name}", shown(value), allowed)
        options[name] = str(value).lower() if isinstance(value, bool) else str(value)


def _check_grid(table: CaseFile, raw: Mapping[str, Plain]) -> None:
    grid, domain = raw.get("grid", {}), raw.get("domain", {})
    anatomy = table.domain.mni152
    edges = grid.get("edges", ())
    if "origin" in grid and edges and not any(isinstance(e, dict) for e in edges):
        said = "given beside edges that are coordinates"
        raise InputError("grid.origin", said, "edges or origin, not both")
    for field, there, needed in (
        ("grid.coarsen", grid.get("coarsen", 1) != 1, "volume or slice"),
        ("domain.crop", domain.get("crop"), "volume or slice"),
        ("domain.slice", "slice" in domain, "slice"),
    ):
        if there and anatomy not in needed.split(" or "):
            said = f"given with domain.mni152 {anatomy or 'not there'}"
            raise InputError(field, said, f"domain.mni152 = {needed}")
    for key in ("extent", "origin"):
        if anatomy and key in grid:
            said = "no such key: the voxels are the box"
            raise InputError(f"grid.{key}", "given with domain.mni152", said)


# ---- names --------------------------------------------------------------------------------------


def _check_names(table: CaseFile) -> None:
    equation = table.equation
    for i, name in enumerate(equation.species):
        check_name(name, f"equation.species[{i}]")
        if name in equation.species[:i]:
            said = "a name of its own for each species"
            raise InputError(f"equation.species[{i}]", repr(name), said)
    for name in equation.known:
        check_name(name, "equation.known: name")
    names = [u.name for u in table.unknown]
    for i, name in enumerate(names):
        check_name(name, f"unknown[{i}].name")
        if name in names[:i]:
            said = "a name of its own for each unknown"
            raise InputError(f"unknown[{i}].name", repr(name), said)
    for key, given in (("equation.known", equation.known), ("unknown", names)):
        for name in given:
            if name in equation.species:
                said = "another name: texts would see the species only"
                raise InputError(f"{key}.{name}", "the name of a species", said)
    for name in names:
        if name in equation.known:
            said = "a coefficient that is not in equation.known"
            raise InputError(f"unknown.{name}", "known too", said)


# ---- [[unknown]], [[regularization]] ------------------------------------------------------------


def is_field(unknown: UnknownSection) -> bool:
    """Whether it is sought cell by cell."""
    return unknown.kind == "field" and unknown.regions is None


def _check_unknowns(table: CaseFile) -> None:
    for u in table.unknown:
        where = f"unknown.{u.name}"
        if learned.is_function(u):
            learned.check(u)
            continue
        if u.smoothness > 0 and u.kind != "history":
            said = (
                f"0 with kind {u.kind!r}: only the values of a history have neighbours"
            )
            raise InputError(f"{where}.smoothness", u.smoothness, said)
        if u.deviation is not None and is_field(u):
            said = "none with a field, whose prior is a [[regularization]]"
            raise InputError(f"{where}.deviation", u.deviation, said)
        if u.kind == "history" and u.length is None:
            raise InputError(
                f"{where}.length", "nothing", "the number of a history's values"
            )


def regularized(table: CaseFile, i: int) -> str:
    """The unknown that regularization[i] acts on. Raises InputError where it is no field."""
    fields = [u.name for u in table.unknown if is_field(u)]
    name = table.regularization[i].unknown or (fields[0] if fields else "")
    if name not in fields:
        there = ", ".join(fields) or "there is none"
        said = f"an unknown field without regions: {there}"
        raise InputError(f"regularization[{i}].unknown", repr(name), said)
    return name


def _check_regularization(table: CaseFile) -> None:
    taken: list[str] = []
    for i in range(len(table.regularization)):
        name = regularized(table, i)
        if name in taken:
            said = f"{name!r} again"
            raise InputError(
                f"regularization[{i}].unknown", said, "one table an unknown"
            )
        taken.append(name)


# ---- [[experiment]], sources --------------------------------------------------------------------


def sources(table: CaseFile) -> Iterator[tuple[str, AnySource]]:
    """All sources of a case, with their keys: those of the terms, then those of the experiments."""
    for i, term in enumerate(table.equation.terms):
        if isinstance(term, Source):
            yield f"equation.terms[{i}]", term
    for e, x in enumerate(table.experiment):
        for i, source in enumerate(x.sources):
            yield f"experiment[{e}].sources[{i}]", source


def sides(table: CaseFile) -> Iterator[tuple[str, str, BoundaryValue]]:
    """All boundary values of a case: (key, side, value)."""
    for e, x in enumerate(table.experiment):
        for name, given in x.boundary.items():
            if isinstance(given, dict):
                for side, value in given.items():
                    yield f"experiment[{e}].boundary.{name}.{side}", side, value
            else:
                yield f"experiment[{e}].boundary.{name}", name, given


def histories(table: CaseFile) -> Iterator[tuple[str, Timed]]:
    """All that may have a history, with its key: sources, and boundary values."""
    yield from sources(table)
    for key, _, value in sides(table):
        if isinstance(value, SideValue):
            yield key, value


def _check_experiments(table: CaseFile, raw: Mapping[str, Plain]) -> None:
    e = table.electrodes
    if e is not None and (e.count is None) == (e.at is None):
        given = {"count": e.count, "at": e.at}
        raise InputError("electrodes", given, "a count or a list `at` of 2 or more")
    if e is not None and table.wells is not None:
        raise InputError(
            "wells", "given beside electrodes", "one of them makes the experiments"
        )
    if not table.experiment and e is None and table.wells is None:
        table.experiment = [read("experiment[0]", {}, ExperimentSection)]
    for k, x in enumerate(table.experiment):
        for name in x.initial:
            if name not in table.equation.species:
                there = "species " + ", ".join(table.equation.species)
                raise InputError(f"experiment[{k}].initial", shown(name), there)
    for key, source in histories(table):
        if isinstance(source.history, str) and not source.history.isidentifier():
            said = "the name of an unknown history, or a list of values"
            raise InputError(f"{key}.history", shown(source.history), said)
        if source.history is not None and not source.times:
            said = "times, one a value of the history"
            raise InputError(f"{key}.times", "nothing", said)


# ---- [[observation]], [simulation] --------------------------------------------------------------


def _check_observations(table: CaseFile) -> None:
    for i, o in enumerate(table.observation):
        where = f"observation[{i}]"
        if isinstance(o.sigma, File | list) and o.data is None:
            said = "a number, where data are simulated"
            raise InputError(f"{where}.sigma", "a file", said)
        if o.electrodes and table.electrodes is None:
            raise InputError(
                f"{where}.electrodes", True, "false, or a section [electrodes]"
            )
        if (o.times is None) != (table.time is None):
            said = (
                "the times at which states are seen, as the case has a section [time]"
                if o.times is None
                else "no times: without a section [time] the state is the steady one"
            )
            got = "nothing" if o.times is None else shown(as_dict(o.times))
            raise InputError(f"{where}.times", got, said)
    check_replicates(table)
    if table.observation and all(o.held_out for o in table.observation):
        said = "false in one [[observation]] at least, which is fitted"
        raise InputError("observation.held_out", "true in all of them", said)
    if table.misfit.kind == "correlated" and len(table.observation) > 1:
        said = "one [[observation]], or another kind"
        raise InputError("misfit.kind", "'correlated' with several observations", said)


def simulated(observations: Sequence[ObservationSection]) -> bool:
    """Whether some data are made rather than measured."""
    return any(o.data is None for o in observations)


def _check_simulation(table: CaseFile, raw: Mapping[str, Plain]) -> None:
    given = raw.get("simulation", {})
    if given and not simulated(table.observation):
        said = "no such section where all data are measured"
        raise InputError("simulation", ", ".join(given), said)
    if table.time is None and "steps" in given:
        raise InputError("simulation.steps", given["steps"], "a section [time]")


# ---- without [time] -----------------------------------------------------------------------------


def _check_steady(table: CaseFile) -> None:
    """Raises InputError for what means something only with [time]."""
    needed = "a section [time]"
    if table.equation.gamma is not None:
        raise InputError("equation.gamma", table.equation.gamma, needed)
    if table.equation.storage is not None:
        raise InputError("equation.storage", shown(table.equation.storage), needed)
    if table.misfit.kind == "correlated":
        raise InputError("misfit.kind", "'correlated'", f"{needed}, or another kind")
    for key, source in histories(table):
        if source.history is not None:
            raise InputError(f"{key}.history", "given", needed)


# ---- derived figures ----------------------------------------------------------------------------


def _check_precision(time: TimeSection) -> None:
    if time.precision == "double":
        return
    from npde_opt.forward.fused import FUSED  # few runs have it

    if time.scheme not in FUSED:
        given = f"single with the scheme {time.scheme}"
        raise InputError(
            "time.precision", given, f"double, or one of the schemes {', '.join(FUSED)}"
        )


def _check_derived(table: CaseFile) -> None:
    scalars = {u.name for u in table.unknown if u.kind == "scalar"}
    scalars |= {
        n for n, v in table.equation.known.items() if isinstance(v, int | float)
    }
    there = "the scalars " + (", ".join(sorted(scalars)) or "(there is none)")
    for name, text in table.equation.derived.items():
        Expressions([text], (), f"equation.derived.{name}").check_names(scalars, there)


# ---- [optimizer] --------------------------------------------------------------------------------


def _check_restarts(table: CaseFile, raw: Mapping[str, Plain]) -> None:
    names, given = [u.name for u in table.unknown], table.optimizer.restarts
    asked, drawn = raw.get("optimizer", {}), isinstance(given, int)
    for i, start in enumerate(given if isinstance(given, list) else []):
        known_keys(f"optimizer.restarts[{i}]: unknown", start, names)
    if "spread" in asked and not ("restarts" in asked and drawn):
        said = "given without starts that are drawn"
        raise InputError("optimizer.spread", said, "restarts = a number, or no spread")


def time_of(table: CaseFile) -> TimeSection:
    """[time] of a case that has it."""
    assert table.time is not None
    return table.time


def _check_own_optimizer(table: CaseFile, raw: Mapping[str, Plain]) -> None:
    """Raises InputError where nothing would hear the keys of a registered optimizer."""
    for key in ("name", "options"):
        if key in raw.get("optimizer", {}) and table.optimizer.method != "registered":
            said = f"given with method = {table.optimizer.method!r}"
            raise InputError(
                f"optimizer.{key}", said, "method = 'registered', or no such key"
            )
