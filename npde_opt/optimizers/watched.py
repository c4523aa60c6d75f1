"""What a run knows of the data that were set aside: see validation.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.errors import SolverError, collective
from npde_opt.optimizers.interface import Objective
from npde_opt.optimizers.point import everyone
from npde_opt.optimizers.validation import LOSS, TRAINING, Held, Validation
from npde_opt.reductions import same


class Watched:
    """The validation of one run; owns the best point."""

    def __init__(self, validation: Validation, objective: Objective):
        self.validation, self.comm = validation, everyone(objective)
        self.objective = cast(Held, objective)
        self.held = validation.held(objective)
        self.best: PETSc.Vec | None = None
        self.loss, self.iteration, self.last = math.inf, -1, -1

    def look(self, m: PETSc.Vec, iteration: int) -> Record:
        """The numbers of the history's columns; the point is kept where it is the best so far.
        Collective."""
        found = self._of(LOSS, self.held, m)
        self.last = iteration
        if found[LOSS] is not None and found[LOSS] < self.loss:
            self.loss, self.iteration = found[LOSS], iteration
            self._keep(m)
        if self.validation.training:
            found |= self._of(TRAINING, self.objective, m)
        return found

    def _of(self, name: str, objective: Held, m: PETSc.Vec) -> Record:
        """Of one set of data; nothing where the state cannot be computed."""
        with collective(self.comm):
            at = objective.linearize(m)
        try:
            with collective(self.comm):
                found = {name: at.loss}
                for figure, value in self.validation.figures.items():
                    found[f"{name}_{figure}"] = float(value(at))
        except SolverError:
            at.destroy()
            return dict.fromkeys(
                (name, *(f"{name}_{figure}" for figure in self.validation.figures))
            )
        at.destroy()
        return {key: same(self.comm, value, key) for key, value in found.items()}

    def _keep(self, m: PETSc.Vec) -> None:
        if self.best is None:
            self.best = m.duplicate()
        m.copy(self.best)

    def idle(self) -> int:
        """Iterations since the best one; 0 where there is none."""
        return 0 if self.best is None else self.last - self.iteration

    def memory(self) -> tuple[dict[str, PETSc.Vec], Record]:
        vectors = {} if self.best is None else {"best": self.best}
        loss = self.loss if math.isfinite(self.loss) else None
        return vectors, {"loss": loss, "iteration": self.iteration, "last": self.last}

    def restore(self, vectors: Mapping[str, PETSc.Vec], meta: Record) -> None:
        self.loss = math.inf if meta["loss"] is None else meta["loss"]
        self.iteration, self.last = meta["iteration"], meta["last"]
        if "best" in vectors:
            self._keep(vectors["best"])

    def release(self) -> None:
        if self.best is not None:
            self.best.destroy()
