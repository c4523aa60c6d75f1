"""J(m) = sum_e phi_e(F_e(m)) + sum_b R_b(m_b): value, gradient, Hessian action.

The sum over experiments runs over the groups of an ensemble; a regularizer acts on one unknown
field. Everything is done in three steps: what a group does by itself; agreement of all ranks that
nothing failed; sums.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.data_term import numbers_of
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.forward.interface import (
    Counters,
    Drawing,
    ForwardMap,
    Linearization,
)
from npde_opt.misfits import Misfit
from npde_opt.objective_at import ObjectiveAt
from npde_opt.parameters import FEW
from npde_opt.regularizers.interface import Regularizer


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
