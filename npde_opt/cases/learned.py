"""Unknowns of a case that are functions: splines and perceptrons, which texts call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from npde_opt.aliases import Numbers, Plain
from npde_opt.cases.field_tables import Expression
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.sought_tables import FUNCTION, UnknownSection
from npde_opt.errors import InputError
from npde_opt.functions import (
    Function,
    Functions,
    Written,
    evaluate_text,
    link,
)
from npde_opt.functions.parser import check_name

MOST = 2000
"""Numbers of one function."""


def is_function(u: UnknownSection) -> bool:
    return u.kind in FUNCTION["kinds"]


def functions(table: CaseFile, truth: bool = False) -> Functions:
    """Those of a case, by name.

    Args:
        truth: true functions are the texts that a case gives.
    """
    sought = [u for u in table.unknown if is_function(u)]
    return {
        u.name: Written(tuple(u.of), _text(u.truth, u, "truth"))
        if truth and u.truth is not None
        else function(u)
        for u in sought
    }


def function(u: UnknownSection) -> Function:
    """Of an unknown. Raises InputError for what it cannot be."""
    from npde_opt.functions import Perceptron, Spline

    boxes, variables = ranges(u), len(u.of)
    with _told(u):
        given = link(u.sign, None if u.bounds is None else (u.bounds[0], u.bounds[1]))
        if u.kind == "perceptron":
            return Perceptron(boxes, u.neurons, u.monotone, given)
        knots = u.knots if isinstance(u.knots, list) else [u.knots] * variables
        if np.prod(knots, dtype=float) > MOST:
            raise InputError(
                "function: knots", u.knots, f"a product of at most {MOST:,}"
            )
        return Spline(boxes, knots, u.monotone, given, u.outside)


def check(u: UnknownSection) -> None:
    """Raises InputError for keys of a function that cannot be."""
    where = f"unknown.{u.name}"
    if not u.of:
        raise InputError(f"{where}.of", "nothing", "the names of its variables")
    for i, name in enumerate(u.of):
        check_name(name, f"{where}.of[{i}]")
        if name in u.of[:i]:
            raise InputError(f"{where}.of[{i}]", repr(name), "a name of its own each")
    if u.range is None:
        raise InputError(f"{where}.range", "nothing", "[lower, upper] of each variable")
    if u.kind == "perceptron" and u.smoothness > 0:
        said = "0 with a perceptron: a `deviation` keeps its weights small"
        raise InputError(f"{where}.smoothness", u.smoothness, said)
    function(u)
    for key in ("initial", "truth"):
        if key == "initial" or u.truth is not None:
            _text(getattr(u, key), u, key)


def numbers(u: UnknownSection, spec: Plain, key: str) -> np.ndarray:
    """Those with which a function is near `initial` or `truth`."""
    text = _text(spec, u, key)

    def near(*v: Numbers) -> Numbers:
        return evaluate_text(
            f"unknown.{u.name}.{key}", text, dict(zip(u.of, v, strict=True))
        )

    with _told(u, key):
        return function(u).near(near)


def values(u: UnknownSection, spec: Plain, key: str, *v: np.ndarray) -> np.ndarray:
    """Of `initial` or `truth` at points."""
    text = _text(spec, u, key)
    found = evaluate_text(
        f"unknown.{u.name}.{key}", text, dict(zip(u.of, v, strict=True))
    )
    return np.broadcast_to(np.asarray(found, float), np.shape(v[0]))


def _text(spec: Plain, u: UnknownSection, key: str) -> str:
    """A number, or a text in the variables, as a text."""
    if isinstance(spec, int | float):
        return repr(float(spec))
    where = f"unknown.{u.name}.{key}"
    if not isinstance(spec, Expression):
        names = ", ".join(u.of)
        raise InputError(
            where, "a list or field", f"a number, or {{expression = TEXT in {names}}}"
        )
    check = partial(evaluate_text, f"{where}.expression", spec.expression)
    check(
        {
            name: (low + high) / 2
            for name, (low, high) in zip(u.of, ranges(u), strict=True)
        }
    )
    return spec.expression


def ranges(u: UnknownSection) -> list[tuple[float, float]]:
    """One a variable."""
    given = u.range or []
    single = len(given) == 2 and not any(isinstance(x, list) for x in given)
    pairs = [given] if single else [x if isinstance(x, list) else [x] for x in given]
    if len(pairs) != len(u.of) or any(len(pair) != 2 for pair in pairs):
        said = (
            "[lower, upper]" if len(u.of) == 1 else f"{len(u.of)} pairs [lower, upper]"
        )
        raise InputError(f"unknown.{u.name}.range", given, said)
    return [(float(low), float(high)) for low, high in pairs]  # type: ignore[arg-type]


@contextmanager
def _told(u: UnknownSection, key: str = "") -> Iterator[None]:
    """What is wrong with a function within is told by a key of its table: `key`, or its own."""
    try:
        yield
    except InputError as error:
        own = key or error.field.removeprefix("function: ")
        raise InputError(
            f"unknown.{u.name}.{own}", error.value, error.allowed
        ) from error
