"""Every key of a case file: section, key, type, default, unit and meaning. `document()` prints it as a page."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from npde_opt.errors import InputError

REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key: its TOML types, default (REQUIRED: none), and meaning."""

    types: tuple[type, ...]
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()


NUMBER, TEXT, LIST, TABLE = (int, float), (str,), (list,), (dict,)
FIELD = (int, float, dict)
PREFIXES = ("state_", "reg_", "tao_")
SIDES = ("x-", "x+", "y-", "y+", "z-", "z+")

SECTIONS: dict[str, dict[str, Key]] = {
    "case": {"title": Key(TEXT, "", "one line for reports"),
             "length_unit": Key(TEXT, "m", "unit of all lengths, for figures")},
    "grid": {"file": Key(TEXT, None, "a TOML file with keys of this section, beside the case; keys given here win"),
             "shape": Key(LIST, None, "cells along each axis; default: that of `domain`'s file divided by `coarsen`"),
             "extent": Key(LIST, None, "lengths along each axis; default 1 each, or the domain's"),
             "origin": Key(LIST, None, "coordinates of the lower corner; default 0"),
             "edges": Key(LIST, None, "stretched grids: one list of n + 1 edge coordinates an axis, instead of shape "
                          "and extent"),
             "coarsen": Key((int,), 1, "cells of the domain's file merged along each axis"),
             "active": Key(FIELD, None, "a field; cells where it exceeds 0.5 are active. Default: the domain's mask, "
                           "else all"),
             "keep": Key(TEXT, "all", "of the active cells: all (each part that no face joins to the rest needs a "
                         "Dirichlet or Robin side, a reaction or a ground of its own), or the largest part only",
                         ("all", "largest"))},
    "domain": {"mni152": Key(TEXT, None, "'volume' or 'slice': the MNI152 brain in nilearn, 1 mm voxels",
                             ("volume", "slice")),
               "slice": Key((int,), 80, "axial voxel index of the slice"),
               "crop": Key((bool,), False, "leave out planes of voxels at the ends that hold no brain")},
    "boundaries": {s: Key((str, dict), "neumann", "a kind (neumann, dirichlet, robin, periodic) or "
                          "{kind = 'robin', coefficient = NUMBER}") for s in SIDES},
    "equation": {"D": Key(FIELD, None, "diffusivity or conductivity; leave out where it is unknown"),
                 "c": Key(FIELD, None, "reaction; leave out for none, or where it is unknown"),
                 "anisotropy": Key(LIST, None, "names of one coefficient a direction, e.g. ['D_x', 'D_y'], in place of "
                                   "D; those not unknown are given in `known`"),
                 "known": Key(TABLE, {}, "fields of the named coefficients that are known"),
                 "velocity": Key(LIST, None, "constant advection velocity a direction"),
                 "ground": Key(TABLE, None, "reference potential 0 behind a conductance")},
    "unknown": {"name": Key(TEXT, REQUIRED, "D, c or a name of `anisotropy`"),
                "transform": Key(TEXT, "log", "what is optimized", ("identity", "log", "bounded")),
                "bounds": Key(LIST, None, "[lower, upper] of the coefficient"),
                "initial": Key(FIELD, REQUIRED, "the coefficient to start from"),
                "regions": Key(FIELD, None, "a field of integers 0, 1, ...: one constant a region"),
                "truth": Key(FIELD, None, "the true coefficient, for simulated data and the error reported"),
                "unit": Key(TEXT, "", "for figures")},
    "experiments": {"boundary": Key(LIST, None, "one table an experiment: side = value"),
                    "source": Key(FIELD, 0.0, "f in every experiment"),
                    "wells": Key(LIST, [], "one list of wells an experiment"),
                    "electrodes": Key(TABLE, None, "one experiment an electrode: current in there, out at another one")},
    "observations": {"points": Key((list, dict), None, "coordinates [[x, y], ...], or {file, key}"),
                     "random": Key((int,), None, "this many points drawn uniformly over the active cells (seed)"),
                     "at_electrodes": Key((bool,), False, "mean over every electrode; the two that carry current are "
                                          "left out"),
                     "sides": Key(LIST, [], "means over sides of the box ('x-', Neumann or Robin) or parts of them"),
                     "boxes": Key(LIST, [], "means over boxes"),
                     "balls": Key(LIST, [], "means over balls"),
                     "integrals": Key(LIST, [], "fields w: the integrals of w u"),
                     "data": Key(TABLE, None, "{file, key}: measured values [experiment, observation], NaN where not "
                                 "observed; observations in the order electrodes, points, sides, boxes, balls, "
                                 "integrals. Default: simulated from `truth`"),
                     "sigma": Key((float, int, dict), None, "standard deviation of a datum, or {file, key} with one a "
                                  "datum; default: noise * rms(data)"),
                     "noise": Key(NUMBER, 0.01, "relative noise of simulated data"),
                     "add_noise": Key((bool,), False, "add noise to measured data too, for tests"),
                     "refine": Key((int,), 2, "simulated data are made on a grid this many times finer than the one "
                                   "inverted, but no finer than the domain's voxels"),
                     "shape": Key(LIST, None, "simulated data are made on a grid of these numbers of cells instead"),
                     "unit": Key(TEXT, "", "for figures")},
    "misfit": {"kind": Key(TEXT, "least-squares", "noise model", ("least-squares", "huber", "student-t")),
               "threshold": Key(NUMBER, 1.345, "Huber: standard deviations up to which it is quadratic"),
               "nu": Key(NUMBER, 4.0, "Student-t: degrees of freedom")},
    "regularization": {"unknown": Key(TEXT, None, "which unknown; default: the first field"),
                       "kind": Key(TEXT, "gradient", "regularizer", ("gradient", "bilaplacian", "total-variation")),
                       "weight": Key((int, float, str), 1.0, "a number, or 'discrepancy': the largest weight, in "
                                     "factors of 4, whose misfit reaches the noise; or 'l-curve'"),
                       "reference": Key(FIELD, None, "coefficient towards which it pulls; default: `initial`"),
                       "gamma": Key(NUMBER, None, "bilaplacian: of the Laplacian"),
                       "delta": Key(NUMBER, None, "bilaplacian: of the field"),
                       "correlation_length": Key(NUMBER, None, "bilaplacian: with variance, instead of gamma and delta"),
                       "variance": Key(NUMBER, None, "bilaplacian: prior variance of a cell's parameter"),
                       "directions": Key(LIST, None, "factors a direction (gradient, bilaplacian)"),
                       "cell_weights": Key(FIELD, None, "factor a cell (gradient, total-variation)"),
                       "epsilon": Key(NUMBER, None, "total-variation: slope below which it is quadratic")},
    "optimizer": {"method": Key(TEXT, "gauss-newton", "see --optimizer"),
                  "max_iterations": Key((int,), 50, "a level"),
                  "gradient_rtol": Key(NUMBER, 1e-6, "stop at this times the initial gradient norm"),
                  "levels": Key((int,), None, "grids of nested iteration; default: as many as the grid coarsens into")},
    "petsc": {},
}
LISTS = ("unknown", "regularization")
FIELD_KEYS = {"file": Key(TEXT, None, ""), "key": Key(TEXT, None, ""), "shape": Key(LIST, None, ""),
              "value": Key(NUMBER, None, ""), "expression": Key(TEXT, None, ""), "mni152": Key(TABLE, None, ""),
              "lognormal": Key(TABLE, None, ""), "clip": Key(LIST, None, ""), "scale": Key(NUMBER, 1.0, ""),
              "resample": Key((bool,), False, "")}
FILE = {"file": Key(TEXT, REQUIRED, "an array's file, or a text table (.csv, .txt, .dat, .tsv)"),
        "key": Key(TEXT, None, "which of its arrays"),
        "part": Key(TEXT, None, "of complex arrays", ("real", "imag", "intensity")),
        "column": Key((str, int, list), None, "of a text table: a name, a number from 0, or a list of them"),
        "where": Key(TABLE, {}, "rows of a text table: {column = [from, to]}"),
        "rows": Key(LIST, None, "[first, last, step] of the first axis, from 0, the last included"),
        "shape": Key(LIST, None, "folds the values, the last axis fastest"),
        "scale": Key(NUMBER, 1.0, "factor of the values"),
        "delimiter": Key(TEXT, None, "',', ';', 'tab', '|' or 'space'; default: found"),
        "decimal": Key(TEXT, None, "'.' or ','; default: found", (".", ",")),
        "header": Key((bool, list), None, "whether the first line holds names, or the names; default: found"),
        "skip": Key((int,), 0, "lines left out at the top"),
        "encoding": Key(TEXT, None, "default: found (UTF-8, UTF-16, Latin-1)"),
        "missing": Key((int, float, str, list), None, "what stands for a missing value, beside empty words, NaN and NA")}
AT = Key(LIST, REQUIRED, "coordinates of the centre")
INSIDE: dict[str, dict[str, Key]] = {
    **{f"boundaries.{side}": {"kind": Key(TEXT, REQUIRED, "of the side"), "coefficient": Key(NUMBER, 0.0, "of a Robin side")}
       for side in SIDES},
    "equation.ground": {"at": AT, "radius": Key(NUMBER, 0.0, "of the patch"),
                        "conductance": Key(NUMBER, REQUIRED, "current out of it for a potential of 1")},
    "experiments.wells": {"at": AT, "rate": Key(NUMBER, REQUIRED, "integral of its source"),
                          "radius": Key(NUMBER, 0.0, "of the patch; 0 is the cell that holds it")},
    "experiments.electrodes": {
        "count": Key((int,), None, "this many a ring, evenly around the outline of the active cells in an axial plane"),
        "rings": Key((int,), 1, "rings, evenly spaced in height over the active cells; 1 is in the middle of the box"),
        "at": Key(LIST, None, "or their centres [[x, y, z], ...]"),
        "radius": Key(NUMBER, 0.0, "of the patch"), "current": Key(NUMBER, 1.0, "that flows"),
        "pattern": Key(TEXT, "opposite", "which electrode takes the current", ("opposite", "adjacent"))},
    "observations.sides": {"side": Key(TEXT, REQUIRED, "which", SIDES), "lower": Key(LIST, None, "corner of the part"),
                           "upper": Key(LIST, None, "corner of the part")},
    "observations.boxes": {"lower": Key(LIST, REQUIRED, "a corner"), "upper": Key(LIST, REQUIRED, "the other corner")},
    "observations.balls": {"at": AT, "radius": Key(NUMBER, REQUIRED, "of the ball")},
    "observations.points": FILE, "observations.data": FILE, "observations.sigma": FILE,
}
"""Tables inside a section, or in a list (of lists) of it."""


def validate(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The case with defaults filled in. Raises InputError naming the first key that is wrong."""
    _known("case file section", raw, SECTIONS)
    out: dict[str, Any] = {}
    for section, keys in SECTIONS.items():
        given = raw.get(section, [] if section in LISTS else {})
        if section in LISTS:
            tables = given if isinstance(given, list) else [given]
            out[section] = [_table(f"{section}[{i}]", t, keys) for i, t in enumerate(tables)]
        elif section != "petsc":
            out[section] = _table(section, given, keys)
    if not out["unknown"]:
        raise InputError("unknown", "nothing", "at least one [[unknown]] table")
    out["petsc"] = _petsc(raw.get("petsc", {}))
    for place, keys in INSIDE.items():
        section, name = place.split(".")
        out[section][name] = _inside(place, out[section][name], keys)
    for side, value in [(s, v) for e in out["experiments"]["boundary"] or [] for s, v in _sides(e)]:
        if side not in SIDES or isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError("experiments.boundary", f"{side} = {value!r}", f"a number for a side ({', '.join(SIDES)})")
    for k, spec in enumerate(out["observations"]["integrals"]):
        _table("observations.integrals", {str(k): spec}, {str(k): Key(FIELD, REQUIRED, "a field")})
    e = out["experiments"]["electrodes"]
    if e is not None and ((e["count"] is None) == (e["at"] is None) or len(e["at"] or [0] * e["count"]) < 2):
        raise InputError("experiments.electrodes", {k: e[k] for k in ("count", "at")}, "a count or a list `at` of 2 or more")
    return out


def _sides(experiment: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(experiment, dict):
        raise InputError("experiments.boundary", repr(experiment), "a table {side = value} an experiment")
    return experiment.items()


def _inside(where: str, given: Any, keys: Mapping[str, Key]) -> Any:
    """Tables below a section's key, in a list or not, with defaults; anything else is left as it is."""
    if isinstance(given, list) and where not in ("observations.points",):
        return [g if isinstance(g, str) and g in SIDES else _inside(f"{where}[{i}]", g, keys) for i, g in enumerate(given)]
    if isinstance(given, dict) or "[" in where:
        return _table(where, given, keys)
    return given


def _petsc(given: Any) -> dict[str, str]:
    """PETSc options by name, without a dash."""
    if not isinstance(given, dict):
        raise InputError("petsc", repr(given), "a table")
    for name, value in given.items():
        if not name.startswith(PREFIXES) or isinstance(value, dict | list):
            raise InputError(f"petsc.{name}", repr(value), f"a value, and a name that starts with {', '.join(PREFIXES)}")
    return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in given.items()}


def _known(where: str, given: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, 1)
            raise InputError(f"{where} '{key}'", "an unknown key", ", ".join(allowed)
                             + (f" (did you mean '{near[0]}'?)" if near else ""))


def _table(where: str, given: Any, keys: Mapping[str, Key]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InputError(where, repr(given), "a table")
    _known(f"{where}: key", given, keys)
    out = {}
    for name, key in keys.items():
        value = given.get(name, key.default)
        if value is REQUIRED:
            raise InputError(f"{where}.{name}", "nothing", f"a value: {key.meaning}")
        if name in given and (not isinstance(value, key.types) or (isinstance(value, bool) and bool not in key.types)):
            raise InputError(f"{where}.{name}", repr(value), " or ".join(t.__name__ for t in key.types))
        if name in given and key.choices and value not in key.choices:
            raise InputError(f"{where}.{name}", repr(value), ", ".join(key.choices))
        if isinstance(value, dict) and key.types == FIELD:
            value = {k: v for k, v in _table(f"{where}.{name}", value, FIELD_KEYS).items() if k in value}
        out[name] = value
    return out


def document() -> str:
    """The format of a case as a Markdown page."""
    lines = ["# The format of a case", "", "A case is a TOML file. A *field* is a number, or one of "
             "`{file = 'K.npy', key = '...'}` (.npy, .npz, .nii, .nii.gz, .vti, .vtr, .vtk, .mat, GRDECL; resampled by "
             "volume to the grid; `shape = [nx, ny, nz]` folds flat files, x fastest), "
             "`{expression = 'exp(x)*y'}` (numpy functions of x, y, z), "
             "`{mni152 = {grey = 0.33, white = 0.14, csf = 1.79}}`, `{lognormal = {contrast = 1000, seed = 0}}`; "
             "`clip = [lo, hi]` and `scale = s` apply after reading. Relative files are looked for beside the "
             "case, then in `--data`.", ""]
    pages = {(f"[[{s}]]" if s in LISTS else f"[{s}]"): keys for s, keys in SECTIONS.items() if keys}
    pages |= {f"Tables in {place}": keys for place, keys in INSIDE.items()
              if keys is not FILE and not place.startswith("boundaries")}
    for heading, keys in pages.items():
        lines += [f"## {heading}", "", "| key | type | default | meaning |", "|---|---|---|---|"]
        for name, key in keys.items():
            kinds = "field" if key.types == FIELD else "/".join(t.__name__ for t in key.types)
            default = "required" if key.default is REQUIRED else "" if key.default is None else f"`{key.default!r}`"
            choices = f" ({', '.join(key.choices)})" if key.choices else ""
            lines.append(f"| `{name}` | {kinds} | {default} | {key.meaning}{choices} |")
        lines.append("")
    lines += ["## [petsc]", "", f"Options of PETSc without their dash, of the prefixes {', '.join(PREFIXES)}; the command line "
              "wins. For example `state_recipe = 'gamg'`.", ""]
    return "\n".join(lines)
