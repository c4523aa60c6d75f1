"""J(m) = sum_e phi_e(F_e(m)) + sum_b R_b(m_b): value, gradient, Hessian action.

The sum over experiments runs over the groups of an ensemble; a regularizer acts on one unknown
field. Everything is done in three steps: what a group does by itself; agreement of all ranks that
nothing failed; sums.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.data_term import AtOnce, DataTermAt, PartByPart, experiments, numbers_of
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.formed import Formed
from npde_opt.forward.interface import (
    AdjointStates,
    Counters,
    Drawing,
    ForwardMap,
    Linearization,
)
from npde_opt.misfits import Misfit
from npde_opt.observations import DataBlock, Metric
from npde_opt.parameters import FEW
from npde_opt.regularizers.interface import Regularizer
from npde_opt.regularizers.products import constant_products, products_one_by_one
from npde_opt.seen import Seen
from npde_opt.stages import stage

INVISIBLE = 1e-6


class Objective:
    """The objective of a forward map, one misfit a block of its data (see `forward.layouts`) and
    regularizers by unknown's name.

    Args:
        at_once: so many of a group's experiments are evaluated together, value and gradient before
            the next ones, which keeps memory at that of so many. The sums are the same, and so is
            what is said between ranks; a product with the Hessian solves for the states again.
            None: all together.

    Attributes:
        experiment_count: of all groups.
        data_count: of all experiments.
    """

    def __init__(
        self,
        forward: ForwardMap,
        misfits: Sequence[Misfit],
        regularizers: Mapping[str, Regularizer],
        ensemble: Ensemble | None = None,
        at_once: int | None = None,
    ):
        if at_once is not None and at_once < 1:
            raise InputError(
                "at_once", at_once, "a number of experiments >= 1, or None"
            )
        self.at_once = at_once
        self.forward, self.misfits, self.regularizers = (
            forward,
            list(misfits),
            dict(regularizers),
        )
        self.space, self.comm = forward.space, forward.grid.comm
        self.ensemble = ensemble or Ensemble.whole(self.comm)
        # Of a part of the experiments: their numbers in this group, in all groups, and the whole.
        self.columns: list[int] | None = None
        self.chosen: np.ndarray | None = None
        self.whole: Objective | None = None
        self.owner = False
        self.scale = 1.0
        # What data tell of unknowns without a regularizer, by name, in their mass: 1 where nobody
        # looked. Beside unknowns whose regularization weighs 1 they are scaled by it.
        self.curvatures: dict[str, float] = {}
        self.blocks = list(range(len(self.misfits)))
        with self.together():
            self._check_misfits()
        reductions.same(
            self.everyone,
            tuple(self.regularizers),
            "the names of the regularized unknowns",
        )
        reductions.same(
            self.everyone, at_once, "at_once, the experiments evaluated together,"
        )
        self.experiment_count = int(self.ensemble.sum(len(forward.experiments)))
        self.data_count = self._count_data()

    def _check_misfits(self) -> None:
        """Raises InputError where they do not fit the blocks of data."""
        layouts = self.forward.layouts
        if len(self.misfits) != len(layouts):
            found, wanted = len(self.misfits), len(layouts)
            raise InputError("misfits", found, f"{wanted}, one a block of data")
        for misfit, layout in zip(self.misfits, layouts, strict=True):
            if misfit.layout.members != layout.members:
                of = f"of experiments {misfit.layout.members}"
                raise InputError("misfits", of, f"{layout.members}, as their data")

    def _count_data(self) -> int:
        counts = tuple(misfit.count for misfit in self.misfits)
        reductions.same(
            self.ensemble.space, counts, "the numbers of data of the experiments"
        )
        found = int(self.ensemble.sum(sum(counts)))
        if found == 0:
            raise InputError("data", "no value that was observed", "at least one datum")
        return found

    def over(
        self, columns: Sequence[int] | np.ndarray, scale: bool = True
    ) -> Objective:
        """The objective of some of the experiments: a minibatch, which shares the forward map, its
        operators, counters and observers, and the regularizers.

        With `scale` the misfit is multiplied by (all data / data of these): where the experiments
        are parted into batches of as many data, the mean over the batches is the whole objective,
        and likewise its derivatives; of other parts the mean weighted by their numbers of data.
        Without, the sum of the parts' misfits is the whole one. chi_squared is of these data.

        Args:
            columns: numbers of experiments among those of all groups, in any order, each once, the
                same on all ranks. Each group takes its own of them; it may have none.

        Raises:
            InputError: for numbers of no experiment, and where none or one twice is given.
        """
        whole = self.whole or self
        with whole.together():
            chosen = numbers_of(columns, whole.experiment_count)
        reductions.same(
            whole.everyone, tuple(chosen.tolist()), "the columns of the objective"
        )
        groups = whole.ensemble.across
        own = chosen[chosen % groups.size == groups.rank] // groups.size
        part = whole._of(own.tolist())
        part.chosen = chosen
        part.data_count = part._count_data()
        part.scale = whole.data_count / part.data_count if scale else 1.0
        return part

    def _of(self, columns: list[int]) -> Objective:
        """Of some of this group's experiments, as each group for itself: their data are not
        counted."""
        whole = self.whole or self
        part = copy.copy(self)
        part.whole, part.columns = whole, columns
        part.blocks, part.misfits = [], []
        for b, misfit in enumerate(whole.misfits):
            found = misfit.layout.columns_of(columns)
            if found.size:
                part.blocks.append(b)
                part.misfits.append(misfit.over(found))
        return part

    def of_epoch(self, epoch: int) -> Objective:
        """With what the forward map draws anew for every epoch, such as noise; itself where it
        draws nothing. It shares all else, and is not to be destroyed."""
        whole = self.whole or self
        forward = (
            whole.forward.of_epoch(epoch)
            if isinstance(whole.forward, Drawing)
            else None
        )
        if forward is None or forward is whole.forward:
            return self
        fresh = copy.copy(whole)
        fresh.forward = forward
        if self.whole is None:
            return fresh
        part = copy.copy(self)
        part.whole, part.forward = fresh, forward
        return part

    def parts(self) -> Iterator[Objective]:
        """Of at_once of this group's experiments after the other, with this objective's scale.
        Each group has its own number of them."""
        own = (
            range(len(self.forward.experiments))
            if self.columns is None
            else self.columns
        )
        step = self.at_once or max(len(own), 1)
        for first in range(0, len(own), step):
            part = self._of(list(own[first : first + step]))
            part.at_once = None
            yield part

    @property
    def numbers(self) -> np.ndarray:
        """Of its experiments among those of all groups, as `over` takes them."""
        return np.arange(self.experiment_count) if self.chosen is None else self.chosen

    @property
    def in_parts(self) -> bool:
        """Whether this group's experiments are evaluated part after part."""
        if self.at_once is None:
            return False
        own = self.forward.experiments if self.columns is None else self.columns
        return len(own) > self.at_once

    @property
    def everyone(self) -> MPI.Intracomm:
        """All ranks of all groups."""
        return self.ensemble.world

    def together(self) -> collective:
        """A block of what each group does by itself; see Ensemble.together."""
        return self.ensemble.together(above=1)

    @property
    def counters(self) -> Counters:
        return self.forward.counters

    @cached_property
    def few(self) -> bool:
        """Whether there are so few parameters that their Gauss-Newton Hessian is formed."""
        numbers = sum(block.count for block in self.space.blocks.values())
        stored = int(reductions.total(self.comm, self.space.local_size))
        return 0 < numbers <= FEW and self.space.size == stored == numbers

    @property
    def unknown_count(self) -> int:
        return len(self.space.unknowns)

    def create_vec(self) -> PETSc.Vec:
        return self.space.create_vec()

    def linearize(self, m: PETSc.Vec) -> ObjectiveAt:
        return ObjectiveAt(self, m)

    def forward_at(self, m: PETSc.Vec) -> Linearization:
        """The forward map's linearization at m, of this objective's experiments."""
        if self.columns is None:
            return self.forward.linearize(m)
        return self.forward.linearize(m, self.columns)

    def gradient_norm(self, g: PETSc.Vec) -> float:
        """sqrt(g^T M^-1 g): the L2 norm of the gradient's Riesz representative."""
        own = g.getArray(readonly=True)
        square = float(own @ (own / self.space.weights))
        return math.sqrt(max(reductions.total(self.comm, square), 0.0))

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
        """Nothing of a part, as what it has is the whole's, but for one that owns the whole."""
        if self.whole is not None:
            if self.owner:
                self.whole.destroy()
            return
        for regularizer in self.regularizers.values():
            regularizer.destroy()
        self.forward.destroy()


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

    @property
    def ends_together(self) -> bool:
        """Whether the gradient, and products with the Hessian, the regularization's and its
        inverse, end with an agreement of all ranks, after which nothing can fail on one of them.
        Of what a derived class adds nothing is known."""
        return type(self) is ObjectiveAt

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

    def regularization_products(self, rows: np.ndarray, found: np.ndarray) -> None:
        """R'' x of every row x (n, own values), 0 where nothing is unknown, into a row of `found`.
        Collective."""
        space, of, done = self.objective.space, self.objective.regularizers, False
        with self.objective.together(), stage("regularization"):
            done = constant_products(space, of, rows, found)
        if not done:
            products_one_by_one(self.m, self.regularization_hessian, rows, found)

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
