"""What a person should know of the parameters at the end of a run: which lie at a bound, which went
far from the start, and which fields have more values than there are data, without a regularization
that would choose among them."""

from __future__ import annotations

import math

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.objective import Objective
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.reductions import largest, total

FAR = math.log(100.0)
FAR_FIELD = math.log(1e4)


def findings(objective: Objective, m: PETSc.Vec, start: PETSc.Vec) -> Record:
    """`at_bound`, `moved` and `undetermined`, texts that name the unknowns; only what there is.
    Destroys `start`. Collective."""
    space = objective.space
    found: Record = {"at_bound": [], "moved": [], "undetermined": []}
    for u in space.unknowns:
        text = _outnumbered(objective, u)
        if text:
            found["undetermined"].append(text)
        text = _at_bound(space, m, u)
        if text:
            found["at_bound"].append(text)
        text = _moved(space, m, start, u)
        if text:
            found["moved"].append(text)
    start.destroy()
    return {key: texts for key, texts in found.items() if texts}


def _outnumbered(objective: Objective, u: Unknown) -> str:
    """A field with more values than there are data, which nothing but the start decides on."""
    regularizer = objective.regularizers.get(u.name)
    if u.block.listed or (
        regularizer is not None and getattr(regularizer, "alpha", 1.0) > 0
    ):
        return ""
    values = objective.space.blocks[u.name].free_count()
    data = int(objective.data_count)
    return (
        f"{u.name}: {values:,} values without a regularization, {data:,} data"
        if values > data
        else ""
    )


def _at_bound(space: ParameterSpace, m: PETSc.Vec, u: Unknown) -> str:
    if u.bounds == (None, None):
        return ""
    p = _values(space, m, u)
    low, high = u.transform.at_ends(p, u.box)
    parts = []
    for where, name, bound in (
        (low, "lower", u.bounds[0]),
        (high, "upper", u.bounds[1]),
    ):
        count, size = total(space.comm, np.array([float(where.sum()), float(p.size)]))
        if count:
            share = f"{count / size:.1%} of its values " if size > 1 else ""
            parts.append(f"{share}at the {name} bound {bound:g}")
    return f"{u.name}: {', '.join(parts)}" if parts else ""


def _moved(space: ParameterSpace, m: PETSc.Vec, start: PETSc.Vec, u: Unknown) -> str:
    if not u.transform.multiplicative:
        return ""
    change = _values(space, m, u) - _values(space, start, u)
    up, down = (
        largest(space.comm, float(np.max(sign * change, initial=0.0)))
        for sign in (1, -1)
    )
    if max(up, down) <= (FAR if u.block.listed else FAR_FIELD):
        return ""
    exponent = up if up >= down else -down
    which = "" if u.block.count == 1 else " (the farthest value)"
    return f"{u.name}{which} is {_power(exponent)} times its start"


def _power(exponent: float) -> str:
    """exp(exponent), also where that is no number of a computer."""
    decades = exponent / math.log(10.0)
    return f"{math.exp(exponent):.2g}" if abs(decades) < 300 else f"1e{decades:+.0f}"


def _values(space: ParameterSpace, vec: PETSc.Vec, u: Unknown) -> np.ndarray:
    """Owned parameters that are free."""
    found: np.ndarray = space.look(vec, u.name)[space.free(u.name)]
    return found
