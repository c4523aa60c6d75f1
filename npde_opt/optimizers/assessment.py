"""Whether a point is an answer: the decrement 1/2 g^T H^-1 g against 1, what no datum sees, what
ran away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.errors import InputError
from npde_opt.optimizers.gauss_newton import GaussNewton
from npde_opt.optimizers.point import Point
from npde_opt.parameters import GAIN
from npde_opt.reductions import anywhere

IDLE = 1e-6
"""A decrement at which no step can help, whatever the gradient at the start was."""


@dataclass(frozen=True)
class Assessment:
    """The decrement (from below, as far as the tolerance asks) and the unknowns, or combinations,
    that no datum sees.

    failure: why there is no decrement (then infinity).
    """

    decrement: float
    undetermined: tuple[str, ...] = ()
    failure: str = ""


def assess(
    point: Point,
    bounds: tuple[PETSc.Vec, PETSc.Vec] | None,
    tolerance: float,
    cg_max: int,
) -> Assessment:
    """The accepted point by its Gauss-Newton model over the entries that are not held by bounds.
    Collective.

    Costs a product with the Hessian for every small value, where the decrement is within the
    tolerance also J dm for every unknown, and inner CG as far as it must to decide.
    """
    at, objective = point.here(), point.objective
    held = point.held(bounds)
    release(point, bounds, held)
    model = GaussNewton(
        objective,
        at,
        point.iterate,
        held if anywhere(objective.comm, bool(held.any())) else None,
    )
    found = model.decrement(at.gradient(), tolerance, cg_max)
    undetermined: list[str] = []
    if found <= tolerance:
        held_whole = {name.split("[")[0] for name in model.held} - {
            name.split("[")[0] for name in model.names
        }
        unseen = [
            name
            for name in at.unseen()
            if name not in held_whole
            and not _known(model.names, model.small.undetermined, name)
        ]
        undetermined = unseen + [
            c for c in model.small.combinations(model.names) if c not in unseen
        ]
    model.destroy()
    return Assessment(found, tuple(undetermined))


def release(
    point: Point, bounds: tuple[PETSc.Vec, PETSc.Vec] | None, held: np.ndarray
) -> None:
    """Frees small values that are near an end of their range, but that the data tell from it.
    Collective."""
    at, objective = point.here(), point.objective
    open_ended = held if bounds is None else held & ~point.binding(bounds)
    if not anywhere(objective.comm, bool(open_ended.any())):
        return
    image = point.iterate.duplicate()
    for _, unit, _ in objective.units(point.iterate):
        mine = unit.getArray(readonly=True) != 0
        if anywhere(objective.comm, bool((open_ended & mine).any())):
            at.hessian(unit, image, True)
            if unit.dot(image) > GAIN:
                held[mine] = False
        unit.destroy()
    image.destroy()


def _known(names: list[str], undetermined: np.ndarray, unknown: str) -> bool:
    """Whether all small values of an unknown are determined by their own Hessian: by a prior, where
    no datum sees them."""
    own = [
        bool(u)
        for name, u in zip(names, undetermined, strict=True)
        if name.split("[")[0] == unknown
    ]
    return bool(own) and not any(own)


def idle(point: Point, bounds: tuple[PETSc.Vec, PETSc.Vec] | None, cg_max: int) -> bool:
    """Whether no step can lower J from the start by more than IDLE; one product tells most starts
    that are not. Collective."""
    at, held = point.here(), point.held(bounds)
    g, p = at.gradient().copy(), point.iterate.duplicate()
    g.getArray()[held] = 0.0
    at.precondition(g, p)
    p.getArray()[held] = 0.0
    image = p.duplicate()
    at.hessian(p, image, True)
    slope, curvature = g.dot(p), p.dot(image)
    for vec in (g, p, image):
        vec.destroy()
    if curvature > 0 and 0.5 * slope**2 / curvature > IDLE:
        return False
    return assess(point, bounds, IDLE, cg_max).decrement <= IDLE


def refuse_blind_start(point: Point) -> None:
    """Raises InputError where the gradient is exactly 0 at the start because nothing depends on any
    unknown. Collective."""
    unseen = point.here().unseen()
    if unseen and len(unseen) == point.objective.unknown_count:
        raise InputError(
            "unknown",
            ", ".join(unseen),
            "an unknown that some datum depends on: at the start none does (is there "
            "a source, a boundary value or an initial state, and is it seen?)",
        )
