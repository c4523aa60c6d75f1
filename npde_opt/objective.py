"""J(m) = sum_e phi_e(F_e(m)) + sum_b R_b(m_b): value, gradient, Hessian action.

The sum over experiments runs over the groups of an ensemble; a regularizer acts on one unknown field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.forward.interface import ForwardMap, Linearization, Weights
from npde_opt.misfits import Misfit
from npde_opt.stages import stage

INVISIBLE = 1e-6


class Objective:
    """The objective of a forward map, one misfit a local experiment and regularizers by unknown's name."""

    def __init__(self, forward: ForwardMap, misfits: Sequence[Misfit], regularizers: Mapping[str, Any],
                 ensemble: Ensemble | None = None):
        if len(misfits) != len(forward.experiments):
            raise InputError("misfits", len(misfits), f"{len(forward.experiments)}, one an experiment")
        self.forward, self.misfits, self.regularizers = forward, list(misfits), dict(regularizers)
        self.space, self.comm = forward.space, forward.grid.comm
        self.ensemble = ensemble or Ensemble.whole(self.comm)
        self.data_count = self.ensemble.sum(sum(m.count for m in misfits))
        if self.data_count == 0:
            raise InputError("data", "no value that was observed", "at least one datum")

    @property
    def counters(self) -> Any:
        return self.forward.counters

    @property
    def unknown_count(self) -> int:
        return len(self.space.unknowns)

    def create_vec(self) -> PETSc.Vec:
        return self.space.create_vec()

    def linearize(self, m: PETSc.Vec) -> ObjectiveAt:
        return ObjectiveAt(self, m)

    def gradient_norm(self, g: PETSc.Vec) -> float:
        """sqrt(g^T M^-1 g): the L2 norm of the gradient's Riesz representative."""
        work = self.space.weights()
        work.pointwiseDivide(g, work)
        norm = math.sqrt(max(work.dot(g), 0.0))
        work.destroy()
        return norm

    def bounds(self) -> tuple[PETSc.Vec, PETSc.Vec] | None:
        return self.space.bounds()

    def units(self, m: PETSc.Vec) -> list[tuple[str, PETSc.Vec, float]]:
        return self.space.units(m)

    def stretch(self, dm: PETSc.Vec) -> float:
        return self.space.stretch(dm)

    def runaways(self, dm: PETSc.Vec) -> list[str]:
        return self.space.runaways(dm)

    def saturated(self, m: PETSc.Vec, g: PETSc.Vec) -> np.ndarray:
        return self.space.saturated(m, g)

    def destroy(self) -> None:
        for regularizer in self.regularizers.values():
            regularizer.destroy()
        self.forward.destroy()


class ObjectiveAt:
    """J at the point m; solves happen when they are asked for and are kept."""

    def __init__(self, objective: Objective, m: PETSc.Vec):
        self.objective, self.m = objective, m.copy()
        self._linearization: Linearization | None = None
        self._value: tuple[float, float] | None = None
        self._gradient: PETSc.Vec | None = None
        self._adjoints: Any = None
        self._weights: dict[bool, list[Weights]] = {}

    @property
    def linearization(self) -> Linearization:
        if self._linearization is None:
            self._linearization = self.objective.forward.linearize(self.m)
        return self._linearization

    def _values(self) -> tuple[float, float]:
        if self._value is None:
            objective = self.objective
            if not objective.ensemble.all(objective.space.at(self.m).finite()):
                self._value = (math.inf, math.inf)
            else:
                lin = self.linearization
                misfit = sum(m.value(d) for m, d in zip(objective.misfits, lin.data, strict=True))
                self._value = (objective.ensemble.sum(misfit), self._regularization())
        return self._value

    def _regularization(self) -> float:
        total = 0.0
        with stage("regularization"):
            for name, r in self.objective.regularizers.items():
                block = self.objective.space.block_vec(self.m, name)
                total += r.value(block)
                block.destroy()
        return total

    @property
    def value(self) -> float:
        return sum(self._values())

    @property
    def misfit(self) -> float:
        return self._values()[0]

    @property
    def regularization(self) -> float:
        return self._values()[1]

    def chi_squared(self) -> float:
        """Squared scaled residuals a datum; about 1 at the noise level."""
        pairs = zip(self.objective.misfits, self.linearization.data, strict=True)
        return self.objective.ensemble.sum(sum(m.chi_squared(d) * m.count for m, d in pairs)) \
            / max(self.objective.data_count, 1)

    @property
    def adjoints(self) -> Any:
        if self._adjoints is None:
            residuals = [m.gradient(d) for m, d in zip(self.objective.misfits, self.linearization.data, strict=True)]
            self._adjoints = self.linearization.adjoint_states(residuals)
            for r in residuals:
                r.destroy()
        return self._adjoints

    def gradient(self) -> PETSc.Vec:
        """dJ/dm; belongs to this point."""
        if self._gradient is None:
            g = self.linearization.apply_adjoint((), self.adjoints)
            self.objective.ensemble.sum_vec(g)
            self._add(g, lambda r, p, x, out: r.gradient(p, out), None)
            self._gradient = g
        return self._gradient

    def _add(self, out: PETSc.Vec, action, dm: PETSc.Vec | None) -> None:
        space = self.objective.space
        with stage("regularization"):
            for name, r in self.objective.regularizers.items():
                p = space.block_vec(self.m, name)
                part, x = p.duplicate(), space.block_vec(dm, name) if dm is not None else None
                action(r, p, x, part)
                space.add_block(out, name, part)
                for vec in (p, part, x):
                    if vec is not None:
                        vec.destroy()

    def _misfit_weights(self, gauss_newton: bool) -> list[Weights]:
        if gauss_newton not in self._weights:
            pairs = zip(self.objective.misfits, self.linearization.data, strict=True)
            self._weights[gauss_newton] = [m.gauss_newton_weights(d) if gauss_newton else m.hessian_weights(d)
                                           for m, d in pairs]
        return self._weights[gauss_newton]

    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool = False) -> None:
        """out = H dm, exact or Gauss-Newton."""
        out.set(0)
        with stage("hessian"):
            self.linearization.hessian(dm, self._misfit_weights(gauss_newton), out,
                                       None if gauss_newton else self.adjoints)
        self.objective.ensemble.sum_vec(out)
        self._add(out, lambda r, p, x, part: r.hessian(p, x, part), dm)

    def information(self, dm: PETSc.Vec) -> float:
        """dm^T J^T W J dm, what the data tell along dm: how far it moves them, in standard deviations and squared."""
        images = self.linearization.apply(dm)
        own = 0.0
        for d, w in zip(images, self._misfit_weights(True), strict=True):
            weighted = d.copy()
            w.apply(weighted)
            own += d.dot(weighted)
            weighted.destroy()
            d.destroy()
        return self.objective.ensemble.sum(own)

    def unseen(self) -> list[str]:
        """Names of the unknowns of which changes of natural size, +-1 for logarithms, move no datum by INVISIBLE sigma."""
        space, found = self.objective.space, []
        for u in space.unknowns:
            dm = space.trial_change(self.m, u.name)
            if self.information(dm) < INVISIBLE**2:
                found.append(u.name)
            dm.destroy()
        return found

    def regularization_hessian(self, dm: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = R'' dm (the identity where nothing is regularized)."""
        dm.copy(out)
        space = self.objective.space
        for name in self.objective.regularizers:
            space.zero_block(out, name)
        self._add(out, lambda r, p, x, part: r.hessian(p, x, part), dm)

    def precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out ~ R''^-1 r; parameters without a regularizer are scaled by their inverse weights."""
        space = self.objective.space
        weights = space.weights()
        out.pointwiseDivide(r, weights)
        weights.destroy()
        for name in self.objective.regularizers:
            space.zero_block(out, name)
        self._add(out, lambda reg, p, x, part: reg.precondition(p, x, part), r)

    def destroy(self) -> None:
        for vec in [self.m, *([self._gradient] if self._gradient is not None else [])]:
            vec.destroy()
        for weights in self._weights.values():
            for w in weights:
                w.destroy()
        if self._linearization is not None:
            self._linearization.destroy()
