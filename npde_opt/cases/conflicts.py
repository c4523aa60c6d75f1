"""Keys of a case that exclude each other, or that nothing would hear: named, never left out in silence.

Looked at are the keys that a case gives; what a default says excludes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from npde_opt.errors import InputError

EXCLUSIVE: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "grid": (("edges", ("shape", "extent")),), "observations": (("points", ("random",)), ("shape", ("refine",))),
    "observation": (("points", ("regions",)),)}
"""By section: a key, and those that must not stand beside it."""

OF_KIND: dict[str, dict[str, tuple[str, ...]]] = {
    "misfit": {"threshold": ("huber",), "nu": ("student-t",), "power": ("proportional",), "floor": ("proportional",),
               "correlation": ("correlated",)},
    "regularization": {"directions": ("gradient", "bilaplacian"), "epsilon": ("total-variation",),
                       "cell_weights": ("gradient", "total-variation"),
                       **dict.fromkeys(("gamma", "delta", "correlation_length", "variance"), ("bilaplacian",))},
    "unknown": {"length": ("history",), "regions": ("field",), "known": ("field",)}}
"""By section: keys that only some values of `kind` hear."""

KINDS = {"misfit": "least-squares", "regularization": "gradient", "unknown": "field"}
"""What `kind` is where it is not given."""


def check_conflicts(raw: Mapping[str, Any], out: Mapping[str, Any]) -> None:
    """Raises InputError naming a key that another one excludes, or that has no effect.

    Args:
        raw: the tables as the case gives them.
        out: the same with defaults, validated.
    """
    for section, given in _tables(raw):
        name = section.partition("[")[0]
        for key, others in EXCLUSIVE.get(name, ()):
            for other in others:
                if key in given and other in given:
                    raise InputError(f"{section}.{other}", f"given beside {key}", f"{key} or {other}, not both")
        kind = given.get("kind", KINDS.get(name))
        for key, kinds in OF_KIND.get(name, {}).items():
            if key in given and kind not in kinds:
                raise InputError(f"{section}.{key}", f"given with the kind {kind!r}",
                                 f"the kind {' or '.join(kinds)}, or no {key}")
    _check_domain(raw, out)
    _check_sides(raw)
    if "equation" in out:
        _check_equation(out)
    for where, source in _sources(out):
        if source.get("history") is None and source.get("times"):
            raise InputError(f"{where}.times", "given without a history", "a history, or no times")


def _tables(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for section, given in raw.items():
        if isinstance(given, list):
            yield from ((f"{section}[{i}]", t) for i, t in enumerate(given) if isinstance(t, dict))
        elif isinstance(given, dict):
            yield section, given


def _check_domain(raw: Mapping[str, Any], out: Mapping[str, Any]) -> None:
    grid, domain, anatomy = raw.get("grid", {}), raw.get("domain", {}), out["domain"]["mni152"]
    if "origin" in grid and "edges" in grid and not any(isinstance(e, dict) for e in grid["edges"]):
        raise InputError("grid.origin", "given beside edges that are coordinates", "edges or origin, not both")
    for field, there, needed in (("grid.coarsen", grid.get("coarsen", 1) != 1, "volume or slice"),
                                 ("domain.crop", domain.get("crop"), "volume or slice"),
                                 ("domain.slice", "slice" in domain, "slice")):
        if there and anatomy not in needed.split(" or "):
            raise InputError(field, f"given with domain.mni152 {anatomy or 'not there'}", f"domain.mni152 = {needed}")
    for key in ("extent", "origin"):
        if anatomy and key in grid:
            raise InputError(f"grid.{key}", "given with domain.mni152", "no such key: the voxels are the box")


def _check_sides(raw: Mapping[str, Any]) -> None:
    for side, kind in raw.get("boundaries", {}).items():
        if isinstance(kind, dict) and "coefficient" in kind and kind["kind"] != "robin":
            raise InputError(f"boundaries.{side}.coefficient", f"given on a {kind['kind']} side",
                             "kind = 'robin', or no coefficient")


def _check_equation(out: Mapping[str, Any]) -> None:
    e, unknown = out["equation"], [u["name"] for u in out["unknown"]]
    directions = e["anisotropy"] or []
    if e["D"] is not None and directions:
        raise InputError("equation.D", "given beside anisotropy", "D or anisotropy, not both")
    for name in e["known"]:
        if name not in directions or name in unknown:
            said = "unknown too" if name in unknown else "in no term"
            others = [n for n in directions if n not in unknown]
            raise InputError(f"equation.known.{name}", said, ", ".join(others) or "nothing: no name of `anisotropy` is known")


def _sources(out: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Sources of an evolution case, with their keys."""
    terms: Sequence[Mapping[str, Any]] = out.get("evolution", {}).get("terms", [])
    yield from ((f"evolution.terms[{i}]", t) for i, t in enumerate(terms) if "source" in t)
    for e, x in enumerate(out.get("experiment", [])):
        yield from ((f"experiment[{e}].sources[{i}]", s) for i, s in enumerate(x["sources"]))
