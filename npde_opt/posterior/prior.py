"""The regularization as a normal prior N(q, P^-1), P the precision at a point m:

    q = m - P^-1 R'(m),   P^-1 n ~ N(0, P^-1) for n ~ N(0, P).

Of quadratic regularizers P is R'' and q their reference. Total variation is quadratic with the
weights that its slopes have at m. Entries that may not move are known: P are its rows and columns
without them. Few numbers without a prior have a flat one (flat.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.errors import InputError
from npde_opt.linear.accuracy import solved_to
from npde_opt.objective import Objective, ObjectiveAt
from npde_opt.optimizers.conjugate_gradients import steihaug
from npde_opt.parameters import ParameterSpace
from npde_opt.parameters.draws import child
from npde_opt.posterior.flat import flat
from npde_opt.regularizers.interface import Normal, Regularizer, Rooted
from npde_opt.stages import stage

Part = Callable[[Normal, PETSc.Vec, PETSc.Vec, PETSc.Vec], None]
"""(prior of an unknown, its block of m, that of x, out): sets out."""
MOST = 1000
"""Steps of CG with known entries."""
DRAWN = 1e-4
"""Relative error of a sample."""
STEADY = 1e-6
"""Relative tolerance of solves in its preconditioner."""


class Prior:
    """The prior at a point of an objective. All methods are collective; Vecs that they return
    belong to the caller.

    Args:
        at: the point; it stays the caller's, and has to live as long as this.
        rtol: of solves with P.
        fixed: own entries (local,) that are known beside those of the parameter space, bool; None:
            none.

    Raises:
        InputError: for `fixed` of another shape or type.
        InputError: where a field has no regularization, or an unknown one of which P is not known
            or that leaves a direction open: then the prior is improper.
        InputError: for few numbers without a prior that the data do not see.
    """

    def __init__(
        self, at: ObjectiveAt, rtol: float = 1e-8, fixed: np.ndarray | None = None
    ):
        self.at, self.objective, self.rtol = at, at.objective, rtol
        self.space = self.objective.space
        check_proper(self.objective)
        self.flat = flat(at)
        self.normals = {n: _of(r) for n, r in self.objective.regularizers.items()}
        self.normals |= self.flat
        space = self.space
        self._points = {n: space.block_vec(at.m, n) for n in self.normals}
        every = self.normals.items()
        self._roots: dict[str, Rooted] = {
            n: r for n, r in every if isinstance(r, Rooted)
        }
        check_fixed(space, fixed)
        held = fixed is not None and bool(fixed.any())
        known = any(b.free_count() < b.count for b in space.blocks.values())
        self.partly_known = known or reductions.anywhere(space.comm, held)
        self._known = self._held(fixed)
        self.free_count = int(reductions.total(space.comm, float((~self._known).sum())))

    def _held(self, fixed: np.ndarray | None) -> np.ndarray:
        """Own entries that may not move (local,)."""
        vec = self.space.create_vec()
        for name in self.space.blocks:
            own = self.space.own(vec, name)
            own[...] = ~self.space.free(name)
        found = np.asarray(vec.getArray(readonly=True) > 0)
        vec.destroy()
        return found if fixed is None else found | fixed

    def mask(self, vec: PETSc.Vec) -> None:
        """Zero where entries are known."""
        if self.partly_known:
            vec.getArray()[self._known] = 0.0

    def precision(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = P x, of an x that is 0 where entries are known."""
        with self.objective.together():
            self._multiply(x, out)

    def _multiply(self, x: PETSc.Vec, out: PETSc.Vec) -> None:
        out.set(0.0)
        self._add_parts(out, lambda r, p, d, part: r.precision(p, d, part), x)
        self.mask(out)

    def _precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        out.set(0.0)
        self._add_parts(out, lambda g, p, d, part: g.precondition(p, d, part), r)
        self.mask(out)

    def _add_parts(self, out: PETSc.Vec, action: Part, x: PETSc.Vec) -> None:
        """Adds what each unknown's prior makes of its block of x. Of one group."""
        space = self.space
        with stage("regularization"):
            for name, r in self.normals.items():
                p, own = self._points[name], space.block_vec(x, name)
                part = p.duplicate()
                action(r, p, own, part)
                space.add_block(out, name, part)
                own.destroy()
                part.destroy()

    def solve(self, r: PETSc.Vec, out: PETSc.Vec, rtol: float | None = None) -> None:
        """out = P^-1 r, to its own `rtol` or another, 0 where entries are known, whatever r is
        there."""
        wanted = self.rtol if rtol is None else rtol
        with self.objective.together():
            if self.partly_known:
                free = r.copy()
                self.mask(free)
                self._solve_around(free, out, wanted)
                free.destroy()
            else:
                with solved_to(wanted):
                    self._precondition(r, out)

    def _solve_around(self, r: PETSc.Vec, out: PETSc.Vec, rtol: float) -> None:
        """P without rows and columns is not what regularizers solve with: that is a preconditioner,
        which CG wants to be the same in every step."""
        with solved_to(min(rtol, STEADY)):
            steihaug(
                self._multiply, self._precondition, r, out, lambda first: rtol, MOST
            )

    def noise(self, seed: int, out: PETSc.Vec) -> None:
        """out ~ N(0, P), as a gradient: the same on any number of ranks."""
        numbers = {u.name: k for k, u in enumerate(self.space.unknowns)}
        out.set(0.0)
        with self.objective.together():
            for name, r in self.normals.items():
                p = self._points[name]
                part = p.duplicate()
                r.noise(p, child(seed, numbers[name]), part)
                self.space.add_block(out, name, part)
                part.destroy()
            self.mask(out)

    def sample(self, seed: int) -> PETSc.Vec:
        """A change ~ N(0, P^-1), P^-1 of `noise` for this seed."""
        noise, out = self.space.create_vec(), self.space.create_vec()
        rtol = max(self.rtol, DRAWN)
        if self.partly_known:
            self.noise(seed, noise)
            self.solve(noise, out, rtol)
        else:
            out.set(0.0)
            with self.objective.together(), solved_to(rtol):
                self._draw(seed, out)
        noise.destroy()
        return out

    def _draw(self, seed: int, out: PETSc.Vec) -> None:
        """By roots, of regularizers that have one. Of one group."""
        numbers = {u.name: k for k, u in enumerate(self.space.unknowns)}
        for name, r in self.normals.items():
            p = self._points[name]
            part, own = p.duplicate(), child(seed, numbers[name])
            if (root := self._roots.get(name)) is not None:
                root.sample(p, own, part)
            else:
                noise = p.duplicate()
                r.noise(p, own, noise)
                r.precondition(p, noise, part)
                noise.destroy()
            self.space.add_block(out, name, part)
            part.destroy()

    def mean(self) -> PETSc.Vec:
        """q."""
        pull, away = self.space.create_vec(), self.space.create_vec()
        self.at.regularization_gradient(pull)
        self.mask(pull)
        self.solve(pull, away)
        away.aypx(-1.0, self.at.m)
        pull.destroy()
        return away

    def known_variance(self, name: str) -> np.ndarray | None:
        """diag P^-1 of an unknown, own values as they lie in its block's Vec; None where it is not
        known without solves."""
        if self.partly_known:
            return None
        with self.objective.together():
            return self.normals[name].variance(self._points[name])


def check_proper(objective: Objective) -> None:
    """Raises InputError where the regularization is no proper prior of all unknowns."""
    for u in objective.space.unknowns:
        r = objective.regularizers.get(u.name)
        where = f"the prior of {u.name}"
        if r is None and u.block.listed:
            continue  # a flat prior
        if r is None:
            allowed = (
                "a [[regularization]] of every unknown field: without one the prior is improper, "
                "and there is no posterior"
            )
            raise InputError(where, "none", allowed)
        if not isinstance(r, Normal):
            allowed = (
                "one with precision, noise, variance and improper (regularizers.Normal)"
            )
            raise InputError(where, type(r).__name__, allowed)
        if r.improper:
            allowed = "one of which every change costs something, or it is improper"
            raise InputError(where, r.improper, allowed)


def check_fixed(space: ParameterSpace, fixed: np.ndarray | None) -> None:
    """Raises InputError on every rank where own entries that are known are none. Collective."""
    shape, kind = (space.local_size,), np.dtype(bool)
    wrong = fixed is not None and (fixed.shape, fixed.dtype) != (shape, kind)
    if reductions.anywhere(space.comm, wrong):
        told = None if fixed is None else f"{fixed.dtype} of shape {fixed.shape}"
        allowed = f"bool of shape {shape}: one of each own entry"
        raise InputError("posterior: fixed", told, allowed)


def _of(r: Regularizer) -> Normal:
    assert isinstance(r, Normal)
    return r
