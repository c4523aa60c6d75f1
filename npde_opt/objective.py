"""J(m) = sum_e phi_e(F_e(m)) + sum_b R_b(m_b): value, gradient, Hessian action.

The sum over experiments runs over the groups of an ensemble; a regularizer acts on one unknown
field. Everything is done in three steps: what a group does by itself; agreement of all ranks that
nothing failed; sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.forward.interface import ForwardMap, Linearization, Weights
from npde_opt.misfits import Misfit
from npde_opt.stages import stage

INVISIBLE = 1e-6


class Objective:
    """The objective of a forward map, one misfit a local experiment and regularizers by unknown's
    name."""

    def __init__(
        self,
        forward: ForwardMap,
        misfits: Sequence[Misfit],
        regularizers: Mapping[str, Any],
        ensemble: Ensemble | None = None,
    ):
        self.forward, self.misfits, self.regularizers = forward, list(misfits), dict(regularizers)
        self.space, self.comm = forward.space, forward.grid.comm
        self.ensemble = ensemble or Ensemble.whole(self.comm)
        with self.together():
            if len(misfits) != len(forward.experiments):
                raise InputError(
                    "misfits", len(misfits), f"{len(forward.experiments)}, one an experiment"
                )
            counts = tuple(int(m.count) for m in misfits)
        reductions.same(self.ensemble.space, counts, "the numbers of data of the experiments")
        reductions.same(
            self.everyone, tuple(self.regularizers), "the names of the regularized unknowns"
        )
        self.data_count = self.ensemble.sum(sum(counts))
        if self.data_count == 0:
            raise InputError("data", "no value that was observed", "at least one datum")

    @property
    def everyone(self) -> MPI.Intracomm:
        """All ranks of all groups."""
        return self.ensemble.world

    def together(self) -> collective:
        """A block of what each group does by itself; see Ensemble.together."""
        return self.ensemble.together(above=1)

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
        """Misfit and regularization, inf where the parameters are out of range."""
        if self._value is None:
            objective, misfits, penalties = self.objective, list[float](), dict[str, float]()
            with objective.together():
                defined = objective.space.at(self.m).finite()
                if defined:
                    misfits = self._misfits()
            with objective.together():
                if defined:
                    penalties = self._penalties()
            if not objective.ensemble.all(defined):
                self._value = (math.inf, math.inf)
            else:
                self._value = (self._total_misfit(misfits), self._total_penalty(penalties))
        return self._value

    def _misfits(self) -> list[float]:
        """Of this group's experiments."""
        pairs = zip(self.objective.misfits, self.linearization.data, strict=True)
        return [float(misfit.value(d)) for misfit, d in pairs]

    def _penalties(self) -> dict[str, float]:
        """Values of the regularizers, by unknown."""
        found = {}
        with stage("regularization"):
            for name, r in self.objective.regularizers.items():
                block = self.objective.space.block_vec(self.m, name)
                found[name] = float(r.value(block))
                block.destroy()
        return found

    def _total_misfit(self, misfits: list[float]) -> float:
        """Sum over all experiments; what the ranks of a group have must be equal."""
        ensemble = self.objective.ensemble
        agreed = [
            reductions.same(ensemble.space, value, f"the misfit of experiment {self._number(k)}")
            for k, value in enumerate(misfits)
        ]
        return ensemble.sum(sum(agreed))

    def _number(self, k: int) -> int:
        """Of this group's k-th experiment among all."""
        across = self.objective.ensemble.across
        return across.rank + k * across.size

    def _total_penalty(self, penalties: dict[str, float]) -> float:
        everyone = self.objective.everyone
        return sum(
            reductions.same(everyone, value, f"the regularization of {name}")
            for name, value in penalties.items()
        )

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
        objective = self.objective
        with objective.together():
            pairs = zip(objective.misfits, self.linearization.data, strict=True)
            own = sum(m.chi_squared(d) * m.count for m, d in pairs)
        return objective.ensemble.sum(own) / max(objective.data_count, 1)

    @property
    def adjoints(self) -> Any:
        if self._adjoints is None:
            residuals = [
                m.gradient(d)
                for m, d in zip(self.objective.misfits, self.linearization.data, strict=True)
            ]
            self._adjoints = self.linearization.adjoint_states(residuals)
            for r in residuals:
                r.destroy()
        return self._adjoints

    def gradient(self) -> PETSc.Vec:
        """dJ/dm; belongs to this point."""
        if self._gradient is None:
            with self.objective.together():
                g = self.linearization.apply_adjoint((), self.adjoints)
            self.objective.ensemble.sum_vec(g)
            with self.objective.together():
                self._add(g, lambda r, p, x, out: r.gradient(p, out), None)
            self._gradient = g
        return self._gradient

    def regularization_gradient(self, out: PETSc.Vec) -> None:
        """out = dR/dm, the regularization's part of the gradient."""
        out.set(0.0)
        with self.objective.together():
            self._add(out, lambda r, p, x, part: r.gradient(p, part), None)

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
            self._weights[gauss_newton] = [
                m.gauss_newton_weights(d) if gauss_newton else m.hessian_weights(d)
                for m, d in pairs
            ]
        return self._weights[gauss_newton]

    def hessian(self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool = False) -> None:
        """out = H dm, exact or Gauss-Newton."""
        out.set(0)
        with self.objective.together(), stage("hessian"):
            self.linearization.hessian(
                dm, self._misfit_weights(gauss_newton), out, None if gauss_newton else self.adjoints
            )
        self.objective.ensemble.sum_vec(out)
        with self.objective.together():
            self._add(out, lambda r, p, x, part: r.hessian(p, x, part), dm)

    def information(self, dm: PETSc.Vec) -> float:
        """dm^T J^T W J dm, what the data tell along dm: how far it moves them, in standard
        deviations and squared."""
        own = 0.0
        with self.objective.together():
            images = self.linearization.apply(dm)
            for d, w in zip(images, self._misfit_weights(True), strict=True):
                weighted = d.copy()
                w.apply(weighted)
                own += d.dot(weighted)
                weighted.destroy()
                d.destroy()
        return self.objective.ensemble.sum(own)

    def unseen(self) -> list[str]:
        """Names of the unknowns of which changes of natural size, +-1 for logarithms, move no datum
        by INVISIBLE sigma."""
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
        with self.objective.together():
            self._add(out, lambda r, p, x, part: r.hessian(p, x, part), dm)

    def precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out ~ R''^-1 r; parameters without a regularizer are scaled by their inverse weights."""
        space = self.objective.space
        weights = space.weights()
        out.pointwiseDivide(r, weights)
        weights.destroy()
        for name in self.objective.regularizers:
            space.zero_block(out, name)
        with self.objective.together():
            self._add(out, lambda reg, p, x, part: reg.precondition(p, x, part), r)

    def destroy(self) -> None:
        for vec in [self.m, *([self._gradient] if self._gradient is not None else [])]:
            vec.destroy()
        for weights in self._weights.values():
            for w in weights:
                w.destroy()
        if self._linearization is not None:
            self._linearization.destroy()
