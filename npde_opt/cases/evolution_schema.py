"""Every key of the sections that a case of an evolution equation has beside those of a steady one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npde_opt.cases.schema import FIELD, LIST, NUMBER, REQUIRED, SECTIONS, TABLE, TEXT, Key, _known, _petsc, _table
from npde_opt.errors import InputError

SHARED = ("case", "grid", "domain", "boundaries", "optimizer")
MODELS = ("least-squares", "huber", "student-t", "proportional", "correlated")
ANY = (int, float, str, list, dict)

EVOLUTION: dict[str, dict[str, Key]] = {
    "evolution": {
        "species": Key(LIST, ["u"], "names of the state's components; ['re', 'im'] for a complex state"),
        "gamma": Key((int, float, str), 1.0, "of gamma du/dt = ...: a number, or 'i', or 'i*NUMBER'"),
        "terms": Key(LIST, REQUIRED, "tables, summed: {diffusion = 'D'} or ['Dx', 'Dy'], {nonlinear-diffusion = TEXT or "
                     "porous-fisher, perona-malik, floor = NUMBER}, {advection = [vx, vy], scheme = 'central'}, {reaction = 'c'} "
                     "(adds c u to A; also text in coefficients, 'k**2*(1 - n**2)'), "
                     "{absorbing = {'x-' = WIDTH}, speed = NUMBER}, {kinetics = NAME or {u = TEXT}}, "
                     "{source = TEXT, history = NAME or LIST, times = LIST}; with species = NAME where there are several"),
        "known": Key(TABLE, {}, "coefficients that are known: numbers or fields"),
        "scheme": Key(TEXT, "ars222", "explicit-euler, heun, imex-euler, imex-theta, ars222, crank-nicolson, backward-euler"),
        "times": Key((list, dict), REQUIRED, "a list, {end, steps}, {end, first, repeats}: steps that double after so many, or "
                     "{end, tolerance}: equal steps, halved at the initial parameters until the data change by less than "
                     "this times their norm"),
        "derived": Key(TABLE, {}, "figures to report: name = text in scalar unknowns and known numbers"),
        "recipe": Key(TEXT, "auto", "of the linear solvers"),
        "memory": Key(TEXT, "", "budget for trajectories of all ranks, e.g. '4GB'; default: all states are kept (--memory)"),
        "axis": Key(TEXT, "t", "name and unit of the variable t for figures, e.g. 't [h]', or 'z [um]' of a paraxial wave"),
        "bound": Key(NUMBER, 1e12, "a state larger than this is a blow-up")},
    "unknown": {**SECTIONS["unknown"],
                "name": Key(TEXT, REQUIRED, "a coefficient of the terms, initial states or sources"),
                "initial": Key(ANY, REQUIRED, "the value to start from: a number, a list (a history) or a field"),
                "truth": Key(ANY, None, "the true value, for simulated data and the error reported"),
                "kind": Key(TEXT, "field", "a field (with `regions` one constant a region), a scalar, or a history of "
                            "`length` values", ("field", "scalar", "history")),
                "length": Key((int,), None, "values of a history"),
                "known": Key(FIELD, None, "fields: where it exceeds 0.5 the unknown is known and keeps `initial`"),
                "deviation": Key(NUMBER, None, "scalars and histories: standard deviation of a normal prior of the "
                                 "parameter around its initial value"),
                "smoothness": Key(NUMBER, 0.0, "histories: weight of the squared differences")},
    "experiment": {"initial": Key(TABLE, {}, "species to text in x, y, z and coefficients, or a field, or {file, column, ...}"),
                   "boundary": Key(TABLE, {}, "side = value on Dirichlet and Robin sides"),
                   "sources": Key(LIST, [], "tables {shape, species, history, times} of this experiment")},
    "observation": {"times": Key((list, dict), REQUIRED, "a list, {start, end, count}, or {file, column, ...}"),
                    "points": Key(LIST, None, "coordinates; default: every cell of the case's grid"),
                    "regions": Key(FIELD, None, "a field of integers: averages over 0, 1, ...; -1 is in none"),
                    "quantity": Key(TEXT, "u", "what is seen of the species, e.g. 're**2 + im**2'"),
                    "data": Key(LIST, None, "one {file, ...} an experiment, ordered by time and place; default: simulated"),
                    "sigma": Key(NUMBER, None, "standard deviation; default: noise * rms of the data"),
                    "noise": Key(NUMBER, 0.01, "relative noise of simulated data")},
    "misfit": {"kind": Key(TEXT, "least-squares", "noise model", MODELS),
               "threshold": Key(NUMBER, 1.345, "Huber"), "nu": Key(NUMBER, 4.0, "Student-t"),
               "power": Key(NUMBER, 1.0, "proportional: errors grow with this power of the prediction"),
               "floor": Key(NUMBER, 1.0, "proportional: predictions smaller than this count as this"),
               "correlation": Key(NUMBER, 0.5, "correlated: of neighbouring times")},
    "simulation": {"refine": Key((int,), 2, "simulated data are made on a grid this many times finer"),
                   "steps": Key((int,), 2, "and with every step cut into so many")},
    "regularization": {**SECTIONS["regularization"], "unknown": Key(TEXT, REQUIRED, "which unknown field")},
}
LISTS = ("unknown", "experiment", "observation", "regularization")


def validate_evolution(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The case with defaults filled in. Raises InputError naming the first key that is wrong."""
    sections = {s: SECTIONS[s] for s in SHARED} | EVOLUTION
    _known("case file section", raw, {**sections, "petsc": None, "variables": None})
    out: dict[str, Any] = {}
    for section, keys in sections.items():
        given = raw.get(section, [] if section in LISTS else {})
        if section in LISTS:
            tables = given if isinstance(given, list) else [given]
            out[section] = [_table(f"{section}[{i}]", t, keys) for i, t in enumerate(tables)]
        else:
            out[section] = _table(section, given, keys)
    for section in ("unknown", "observation"):
        if not out[section]:
            raise InputError(section, "nothing", f"at least one [[{section}]] table")
    out["experiment"] = out["experiment"] or [_table("experiment", {}, EVOLUTION["experiment"])]
    out["petsc"] = _petsc(raw.get("petsc", {}))
    return out


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


def document_evolution() -> str:
    """The keys of an evolution case as a Markdown page."""
    lines = ["# The format of an evolution case", "", "Sections that differ from those of a steady case, whose `[case]`, "
             "`[grid]`, `[domain]`, `[boundaries]`, `[optimizer]` and `[petsc]` it shares. `[variables]` holds names and values "
             "that replace {NAME} in texts, and that --set NAME=VALUE changes.", ""]
    for section, keys in EVOLUTION.items():
        heading = f"[[{section}]]" if section in LISTS else f"[{section}]"
        lines += [f"## {heading}", "", "| key | type | default | meaning |", "|---|---|---|---|"]
        for name, key in keys.items():
            kinds = "field" if key.types == FIELD else "/".join(t.__name__ for t in key.types)
            default = "required" if key.default is REQUIRED else "" if key.default is None else f"`{key.default!r}`"
            choices = f" ({', '.join(key.choices)})" if key.choices else ""
            lines.append(f"| `{name}` | {kinds} | {default} | {key.meaning}{choices} |")
        lines.append("")
    return "\n".join(lines)
