"""Every key of the sections that a case of an evolution equation has beside those of a steady one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from npde_opt.cases.schema import FIELD, LIST, NUMBER, REQUIRED, SECTIONS, TABLE, TEXT, Key, _known, _petsc, _table
from npde_opt.errors import InputError
from npde_opt.functions.text import Expressions

SHARED = ("case", "grid", "domain", "boundaries", "optimizer")
MODELS = ("least-squares", "huber", "student-t", "proportional", "correlated")
ANY = (int, float, str, list, dict)

EVOLUTION: dict[str, dict[str, Key]] = {
    "evolution": {
        "species": Key(LIST, ["u"], "names of the state's components; ['re', 'im'] for a complex state"),
        "gamma": Key((int, float, str), 1.0, "of gamma du/dt = ...: a number, or 'i', or 'i*NUMBER' (2ik of a paraxial wave)"),
        "terms": Key(LIST, REQUIRED, "tables, summed: {diffusion = 'D'} or ['Dx', 'Dy'], {nonlinear-diffusion = TEXT or "
                     "porous-fisher, perona-malik, floor = NUMBER}, {advection = [vx, vy], scheme = 'upwind' or 'central'}, "
                     "{reaction = 'c'} "
                     "(adds c u to A; also text in coefficients, 'k**2*(1 - n**2)'), "
                     "{absorbing = {'x-' = WIDTH}, speed = NUMBER, depth = 5.0 (e-foldings)}, {kinetics = NAME or {u = TEXT}}, "
                     "{source = TEXT, history = NAME or LIST, times = LIST, interpolation = 'linear' or 'steps'}; "
                     "with species = NAME where there are several"),
        "known": Key(TABLE, {}, "coefficients that are known: numbers or fields"),
        "scheme": Key(TEXT, "ars222", "explicit-euler, heun, imex-euler, imex-theta, ars222, crank-nicolson, backward-euler"),
        "times": Key((list, dict), REQUIRED, "a list, {end, steps}, {end, first, repeats}: steps that double after so many, or "
                     "{end, tolerance}: equal steps, halved at the initial parameters until the data change by less than "
                     "this times their norm. Steps also end at the times of all observations and histories"),
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
    "experiment": {"initial": Key(TABLE, {}, "species to text in x, y, z and coefficients, or a field, or a column of a text "
                                  "file, one value a cell, rows chosen by ranges: {file = 'a.csv', column = 'u', where = "
                                  "{t = [0, 0]}, scale = 1.0}"),
                   "boundary": Key(TABLE, {}, "side = value on Dirichlet and Robin sides"),
                   "sources": Key(LIST, [], "tables {shape, species, history, times, interpolation} of this experiment")},
    "observation": {"times": Key((list, dict), REQUIRED, "a list, {start, end, count}, or {file, column, ...}"),
                    "points": Key((list, dict), None, "coordinates, or {file, ...}; default: every cell of the case's grid"),
                    "regions": Key(FIELD, None, "a field of integers: averages over 0, 1, ...; -1 is in none"),
                    "quantity": Key(TEXT, "u", "what is seen of the species, e.g. 're**2 + im**2'"),
                    "data": Key(LIST, None, "one {file, ...} an experiment, ordered by time and place; default: simulated"),
                    "sigma": Key((int, float, dict, list), None, "standard deviation, or {file, ...} with one a datum (a list: "
                                 "one file an experiment); default: noise * rms of the data"),
                    "noise": Key(NUMBER, 0.01, "relative noise of simulated data; of measured ones only their sigma"),
                    "add_noise": Key((bool,), False, "add noise to measured data too, for tests")},
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
NUMBERS = Key(LIST, (), "numbers")
SOURCE = {"history": Key((str, list), None, "an unknown history, or its values at `times`; default: constant"), "times": NUMBERS,
          "interpolation": Key(TEXT, "linear", "of a history between its times, or steps: each value holds until the next time",
                               ("linear", "steps"))}
SPECIES = {"species": Key(TEXT, None, "which, where there are several")}
TERMS: dict[str, dict[str, Key]] = {
    "diffusion": {"diffusion": Key((str, list), REQUIRED, "a coefficient's name, or one a direction"), **SPECIES},
    "nonlinear-diffusion": {"nonlinear-diffusion": Key(TEXT, REQUIRED, "D(u, g), g = |grad u|"),
                            "floor": Key(NUMBER, None, "u is not taken smaller than this"), **SPECIES},
    "advection": {"advection": Key(LIST, REQUIRED, "the velocity"),
                  "scheme": Key(TEXT, "upwind", "", ("upwind", "central")), **SPECIES},
    "reaction": {"reaction": Key(TEXT, REQUIRED, "a coefficient's name, or text in coefficients"), **SPECIES},
    "absorbing": {"absorbing": Key(TABLE, REQUIRED, "side = width"), "speed": Key(NUMBER, 1.0, "of the waves"),
                  "depth": Key(NUMBER, 5.0, "of the layer in e-foldings")},
    "kinetics": {"kinetics": Key((str, dict), REQUIRED, "a model's name, or {species = text}")},
    "source": {"source": Key((str, int, float), REQUIRED, "its shape, text in x, y, z and coefficients"), **SOURCE, **SPECIES}}
TIMES: dict[str, dict[str, Key]] = {
    kind: {"start": Key(NUMBER, 0.0, ""), "end": Key(NUMBER, REQUIRED, "the last time"), **keys} for kind, keys in {
        "steps": {"steps": Key((int,), REQUIRED, "their number")},
        "first": {"first": Key(NUMBER, REQUIRED, "the first step"), "repeats": Key((int,), 8, "steps of each size")},
        "tolerance": {"tolerance": Key(NUMBER, REQUIRED, "relative change of the data")}}.items()}
EXPERIMENT_SOURCE = {"shape": Key((str, int, float), REQUIRED, "text in x, y, z and coefficients"), **SOURCE, **SPECIES}
COUNTED = {"start": Key(NUMBER, REQUIRED, "the first"), "end": Key(NUMBER, REQUIRED, "the last"),
           "count": Key((int,), REQUIRED, "how many")}


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
    _check_tables(out)
    _check_values(out)
    return out


def _check_tables(out: dict[str, Any]) -> None:
    """Those inside the sections, with defaults filled in."""
    evolution = out["evolution"]
    evolution["terms"] = [_one_of(f"evolution.terms[{i}]", t, TERMS) for i, t in enumerate(evolution["terms"])]
    if isinstance(evolution["times"], dict):
        evolution["times"] = _one_of("evolution.times", evolution["times"], TIMES)
    for e, x in enumerate(out["experiment"]):
        x["sources"] = [_table(f"experiment[{e}].sources[{i}]", s, EXPERIMENT_SOURCE) for i, s in enumerate(x["sources"])]
        for side, value in x["boundary"].items():
            for name, v in value.items() if isinstance(value, dict) else [(side, value)]:
                if isinstance(v, bool) or not isinstance(v, int | float):
                    raise InputError(f"experiment[{e}].boundary.{name}", repr(v), "a number")
    for i, o in enumerate(out["observation"]):
        if isinstance(o["times"], dict) and "file" not in o["times"]:
            o["times"] = _table(f"observation[{i}].times", o["times"], COUNTED)
        if o["times"] == [] or isinstance(o["times"], dict) and o["times"].get("count", 1) < 1:
            raise InputError(f"observation[{i}].times", "none", "at least one time")


def _one_of(where: str, given: Any, kinds: Mapping[str, dict[str, Key]]) -> dict[str, Any]:
    """A table of the kind of the one key of `kinds` that it has, without what is not given and has no default."""
    if not isinstance(given, dict):
        raise InputError(where, repr(given), "a table")
    kind = [k for k in kinds if k in given]
    if len(kind) != 1:
        near = difflib.get_close_matches(next(iter(given), ""), kinds, 1)
        raise InputError(where, sorted(given), "one of " + ", ".join(kinds) + (f" (did you mean '{near[0]}'?)" if near else ""))
    return {k: v for k, v in _table(where, given, kinds[kind[0]]).items() if v is not None}


def _check_values(out: dict[str, Any]) -> None:
    """Numbers that are checked before any work."""
    wanted = [("evolution.bound", out["evolution"]["bound"], "a positive number"),
              ("simulation.refine", out["simulation"]["refine"], "an integer >= 1"),
              ("simulation.steps", out["simulation"]["steps"], "an integer >= 1"),
              ("misfit.threshold", out["misfit"]["threshold"], "a positive number"),
              ("misfit.nu", out["misfit"]["nu"], "a positive number"),
              ("misfit.floor", out["misfit"]["floor"], "a positive number")]
    for i, o in enumerate(out["observation"]):
        if isinstance(o["sigma"], dict | list):
            if o["data"] is None:
                raise InputError(f"observation[{i}].sigma", "a file", "a number, where data are simulated")
        elif o["sigma"] is not None:
            wanted.append((f"observation[{i}].sigma", o["sigma"], "a positive standard deviation"))
        else:
            wanted.append((f"observation[{i}].noise", o["noise"], "a positive number, or a positive sigma"))
    for name, value, allowed in wanted:
        if not value > 0:
            raise InputError(name, value, allowed)
    if out["misfit"]["power"] < 0:
        raise InputError("misfit.power", out["misfit"]["power"], "a number >= 0")
    if not -1 < out["misfit"]["correlation"] < 1:
        raise InputError("misfit.correlation", out["misfit"]["correlation"], "a number between -1 and 1")
    if out["misfit"]["kind"] == "correlated" and len(out["observation"]) > 1:
        raise InputError("misfit.kind", "'correlated' with several observations", "one [[observation]], or another kind")
    unknown = {u["name"]: u for u in out["unknown"]}
    fields = [name for name, u in unknown.items() if u["kind"] == "field" and u["regions"] is None]
    for i, r in enumerate(out["regularization"]):
        if r["unknown"] not in fields:
            raise InputError(f"regularization[{i}].unknown", repr(r["unknown"]),
                             "an unknown field without regions: " + (", ".join(fields) or "there is none"))
    known = out["evolution"]["known"]
    for name, u in unknown.items():
        if name in known:
            raise InputError(f"unknown.{name}", "known too", "a coefficient that is not in evolution.known")
        if u["kind"] == "history" and not (u["length"] or 0) > 0:
            raise InputError(f"unknown.{name}.length", u["length"], "the number of a history's values")
    scalars = {n for n, u in unknown.items() if u["kind"] == "scalar"}
    scalars |= {n for n, v in known.items() if isinstance(v, int | float)}
    for name, text in out["evolution"]["derived"].items():
        missing = set(Expressions([text], (), f"evolution.derived.{name}").parameters) - scalars
        if missing:
            raise InputError(f"evolution.derived.{name}", text, "text in the scalars " + ", ".join(sorted(scalars)))


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
