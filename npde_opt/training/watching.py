"""The validation samples of a case, as the optimizers look at them after every iteration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from petsc4py import PETSc

from npde_opt.objective import Objective
from npde_opt.optimizers.validation import Validation
from npde_opt.training.problem import Problem, wrong


class WatchedAt:
    """What the network at one point makes of them.

    Attributes:
        loss: mean over the samples.
        misfit: sum over them.
        error: share of those whose class is another. rmse: in the unit of the data.
    """

    def __init__(self, problem: Problem, m: PETSc.Vec):
        part = problem.parts.validation
        assert part is not None
        seen = problem.see(m, part)
        self.loss = problem.mean(seen.loss)
        self.misfit = self.loss * part.count
        self.error = self.rmse = float("nan")
        if problem.classifies:
            self.error = problem.mean(wrong(seen, problem.samples(part).targets))
        else:
            self.rmse = float(np.sqrt(problem.mean(seen.squares)))

    def destroy(self) -> None:
        """Nothing is kept."""


class Watched:
    """The validation of a problem."""

    def __init__(self, problem: Problem):
        self.problem = problem

    def linearize(self, m: PETSc.Vec) -> WatchedAt:
        return WatchedAt(self.problem, m)


def watching(classifies: bool, problem: Callable[[], Problem]) -> Validation:
    """What is looked at.

    Args:
        classifies: whether the targets are classes.
        problem: gives the one that is solved.
    """

    def held(objective: Objective) -> Watched:
        return Watched(problem())

    name = "error" if classifies else "rmse"
    return Validation(held, {name: lambda at: float(getattr(at, name))})
