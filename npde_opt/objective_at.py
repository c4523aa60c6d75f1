"""J at one point m: value, gradient and products with the Hessian; solves happen when they are
asked for and are kept.

Everything is done in three steps: what a group does by itself; agreement of all ranks that nothing
failed; sums over groups (see objective.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.data_term import AtOnce, DataTermAt, PartByPart, experiments
from npde_opt.formed import Formed
from npde_opt.forward.interface import (
    AdjointStates,
    Linearization,
)
from npde_opt.misfits import Misfit
from npde_opt.observations import DataBlock, Metric
from npde_opt.regularizers.forms import constant_forms, forms_by_products
from npde_opt.regularizers.interface import Regularizer
from npde_opt.seen import Seen
from npde_opt.stages import stage

if TYPE_CHECKING:
    from npde_opt.objective import Objective

INVISIBLE = 1e-6
Part = Callable[[Regularizer, PETSc.Vec, PETSc.Vec | None, PETSc.Vec], None]
"""(regularizer, its block of m, that of dm or None, out): sets out."""


class ObjectiveAt:
    """J at the point m; solves happen when they are asked for and are kept."""

    def __init__(self, objective: Objective, m: PETSc.Vec):
        self.objective, self.m = objective, m.copy()
        self._blocks: dict[str, PETSc.Vec] = {}
        """Of m, by the unknown, where regularizers ask for them."""
        self._work: dict[str, tuple[PETSc.Vec, PETSc.Vec]] = {}
        """For a part of a regularizer and what it is made of, kept on small grids."""
        self._at_once = AtOnce(objective, self.m)
        self._value: tuple[float, float] | None = None
        self._gradient: PETSc.Vec | None = None

    @cached_property
    def _term(self) -> DataTermAt:
        """The sum over the experiments."""
        objective = self.objective
        if objective.in_parts:
            return PartByPart(objective, objective.parts, self.m)
        return self._at_once

    @property
    def linearization(self) -> Linearization:
        """Of all experiments together, whatever `at_once` says."""
        return self._at_once.linearization

    @property
    def adjoints(self) -> AdjointStates:
        """Of all experiments together."""
        return self._at_once.adjoints

    @property
    def metrics(self) -> list[Metric]:
        """W of Gauss-Newton, one a block of this group, of all experiments together."""
        return self._at_once.metrics_at(True)

    @property
    def data(self) -> list[DataBlock]:
        """What is predicted, one block a misfit of this group. Collective over its ranks."""
        return self._term.data

    def _values(self) -> tuple[float, float]:
        """Misfit and regularization, inf where the parameters are out of range."""
        if self._value is None:
            objective, misfits, penalties = (
                self.objective,
                list[np.ndarray](),
                dict[str, float](),
            )
            with objective.together():
                defined = objective.space.finite(self.m)
                if defined:
                    misfits = self._term.values()
            with objective.together():
                if defined:
                    penalties = self._penalties()
            if not objective.ensemble.all(defined):
                self._value = (math.inf, math.inf)
            else:
                self._value = (
                    self._total_misfit(misfits),
                    self._total_penalty(penalties),
                )
        return self._value

    def _penalties(self) -> dict[str, float]:
        """Values of the regularizers, by unknown."""
        found = {}
        with stage("regularization"):
            for name, r in self.objective.regularizers.items():
                block = self.objective.space.block_vec(self.m, name)
                found[name] = float(r.value(block))
                block.destroy()
        return found

    def _total_misfit(self, misfits: list[np.ndarray]) -> float:
        """Sum over all experiments; what the ranks of a group have must be equal."""
        objective = self.objective
        agreed = []
        for misfit, values in zip(objective.misfits, misfits, strict=True):
            of = f"the misfit of {experiments(misfit.layout.members, objective.ensemble.across)}"
            agreed.append(
                reductions.same(objective.ensemble.space, float(values.sum()), of)
            )
        return objective.scale * objective.ensemble.sum(sum(agreed))

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

    @property
    def loss(self) -> float:
        """Misfit a datum; found from the data alone, without the gradients of parts."""
        objective, found = self.objective, list[np.ndarray]()
        with objective.together():
            found = [np.asarray(m.values(d)) for m, d in self._predicted()]
        return self._total_misfit(found) / (objective.scale * objective.data_count)

    def _predicted(self) -> Iterator[tuple[Misfit, DataBlock]]:
        """The misfits and their data."""
        return zip(self.objective.misfits, self.data, strict=True)

    def chi_squared(self) -> float:
        """Squared scaled residuals a datum; about 1 at the noise level."""
        objective = self.objective
        with objective.together():
            own = sum(m.chi_squared(d) * m.count for m, d in self._predicted())
        return objective.ensemble.sum(own) / max(objective.data_count, 1)

    def gradient(self) -> PETSc.Vec:
        """dJ/dm; belongs to this point."""
        if self._gradient is None:
            with self.objective.together():
                g = self._term.gradient()
            self.objective.ensemble.sum_vec(g)
            with self.objective.together():
                self.add_parts(g, lambda r, p, x, out: r.gradient(p, out), None)
            self._gradient = g
        return self._gradient

    def regularization_gradient(self, out: PETSc.Vec) -> None:
        """out = dR/dm, the regularization's part of the gradient."""
        out.set(0.0)
        with self.objective.together():
            self.add_parts(out, lambda r, p, x, part: r.gradient(p, part), None)

    def add_parts(self, out: PETSc.Vec, action: Part, dm: PETSc.Vec | None) -> None:
        """Adds what each regularizer makes of its block of m and of dm. Of one group."""
        space = self.objective.space
        with stage("regularization"):
            for name, r in self.objective.regularizers.items():
                if name not in self._blocks:
                    self._blocks[name] = space.block_vec(self.m, name)
                p = self._blocks[name]
                work = self._work.pop(name, None) or (p.duplicate(), p.duplicate())
                part, x = work
                if dm is not None:
                    space.take_block(dm, name, x)
                action(r, p, x if dm is not None else None, part)
                space.add_block(out, name, part)
                if space.grid.small:
                    self._work[name] = work
                else:
                    for vec in work:
                        vec.destroy()

    def hessian(
        self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool = False
    ) -> None:
        """out = H dm, exact or Gauss-Newton."""
        self.data_hessian(dm, out, gauss_newton)
        with self.objective.together():
            self.add_parts(out, lambda r, p, x, part: r.hessian(p, x, part), dm)

    def data_hessian(
        self, dm: PETSc.Vec, out: PETSc.Vec, gauss_newton: bool = False
    ) -> None:
        """out = the misfit's part of H dm, exact or Gauss-Newton."""
        if gauss_newton and self.objective.few:
            self._formed.apply(dm, out)
            return
        out.set(0)
        with self.objective.together(), stage("hessian"):
            self._term.hessian(dm, out, gauss_newton)
        self.objective.ensemble.sum_vec(out)

    def information(self, dm: PETSc.Vec) -> float:
        """dm^T J^T W J dm, what the data tell along dm: how far it moves them, in standard
        deviations and squared."""
        if "_formed" in self.__dict__:
            return self._formed.square(dm)
        return float(self.gram([dm])[0, 0])

    @cached_property
    def _formed(self) -> Formed:
        return Formed(self.objective.space, self.m, self.gram)

    def gram(self, along: list[PETSc.Vec]) -> np.ndarray:
        """v_i^T J^T W J v_j of some directions v, W that of Gauss-Newton: by J v alone, with all of
        these in memory. The same on every rank; collective."""
        own = np.empty(0)
        with self.objective.together(), stage("hessian"):
            own = self._term.gram(along)
        return self.objective.ensemble.sum(own)

    def seen(self, along: list[PETSc.Vec]) -> Seen | None:
        """What the data see of some directions, kept; at least one. None where experiments are
        evaluated part by part, of which nothing is kept. Collective."""
        objective = self.objective
        if reductions.anywhere(objective.everyone, objective.in_parts):
            return None
        with objective.together(), stage("hessian"):
            return self._at_once.seen(along)

    def products(self, first: Seen, second: Seen) -> np.ndarray:
        """v_i^T J^T W J w_j, W that of Gauss-Newton, the same on every rank. Collective."""
        own = np.empty(0)
        with self.objective.together():
            own = first.products(second)
        return self.objective.ensemble.sum(own)

    def pulled(self, kept: Seen, number: int) -> PETSc.Vec:
        """J^T W J v of one direction, by an adjoint state; the caller's. Collective."""
        with self.objective.together(), stage("hessian"):
            out = self._at_once.linearization.apply_adjoint(kept.pulls(number))
        self.objective.ensemble.sum_vec(out)
        return out

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
            self.add_parts(out, lambda r, p, x, part: r.hessian(p, x, part), dm)

    def regularization_gram(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """x^T R'' y of all x of `rows` (n, values) and y of `others` (m, values), 0 where nothing
        is unknown: (n, m). On one rank."""
        space, of = self.objective.space, self.objective.regularizers
        with self.objective.together(), stage("regularization"):
            found = constant_forms(space, of, rows, others)
        if found is None:
            found = forms_by_products(self.m, self.regularization_hessian, rows, others)
        return found

    def precondition(self, r: PETSc.Vec, out: PETSc.Vec) -> None:
        """out ~ R''^-1 r; parameters without a regularizer are scaled by their inverse mass,
        over the objective's `curvatures`."""
        space = self.objective.space
        if set(space.blocks) <= set(self.objective.regularizers):
            r.copy(out)
        else:
            mass = space.mass()
            out.pointwiseDivide(r, mass)
            mass.destroy()
            for name, curvature in self.objective.curvatures.items():
                space.own(out, name)[...] /= curvature
        for name in self.objective.regularizers:
            space.zero_block(out, name)
        with self.objective.together():
            self.add_parts(out, lambda reg, p, x, part: reg.precondition(p, x, part), r)

    def destroy(self) -> None:
        own = [self._gradient] if self._gradient is not None else []
        work = [vec for pair in self._work.values() for vec in pair]
        for vec in [self.m, *own, *self._blocks.values(), *work]:
            vec.destroy()
        self._at_once.destroy()
        if self._term is not self._at_once:
            self._term.destroy()
