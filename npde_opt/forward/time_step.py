"""A time step as a layer of a chain: step n of a stepper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.errors import SolverError
from npde_opt.forward.layer import Stages
from npde_opt.terms.state import Gradients


class Steps(Protocol):
    """A stepper: what a layer does, by the number of the step."""

    def step(self, n: int, u: np.ndarray) -> Stages: ...
    def tangent(
        self,
        n: int,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None = None,
    ) -> Stages: ...
    def tangents(
        self,
        n: int,
        stages: Stages,
        dus: Sequence[np.ndarray],
        dks: Sequence[Coefficients],
        previous: Sequence[np.ndarray | None],
    ) -> list[Stages]: ...
    def adjoint(
        self,
        n: int,
        stages: Stages,
        adjoint: np.ndarray,
        out: Gradients | None,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]: ...
    def second(
        self,
        n: int,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Gradients,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]: ...
    def when(self, n: int) -> str: ...
    def rates_not_finite(self, n: int, stages: Stages) -> str: ...


class TimeStep:
    """Step n of a stepper: a layer (see layer.py)."""

    def __init__(self, stepper: Steps, n: int):
        self.stepper, self.n = stepper, n

    def step(self, u: np.ndarray) -> Stages:
        """What fails says in which step, and whether the rates at its start are the cause."""
        stepper, n = self.stepper, self.n
        try:
            return stepper.step(n, u)
        except SolverError as error:
            when = f"{error.reason} in {stepper.when(n)}"
            found = stepper.rates_not_finite(n, [u])
            reason = f"{when}: {found}" if found else when
            raise SolverError(error.prefix, reason, error.remedy) from error

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        return self.stepper.tangent(self.n, stages, du, dk, previous)

    def tangents(
        self,
        stages: Stages,
        dus: Sequence[np.ndarray],
        dks: Sequence[Coefficients],
        previous: Sequence[np.ndarray | None],
    ) -> list[Stages]:
        return self.stepper.tangents(self.n, stages, dus, dks, previous)

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Gradients | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        return self.stepper.adjoint(self.n, stages, adjoint, out, late)

    def second(
        self,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Gradients,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        return self.stepper.second(
            self.n, stages, changes, multipliers, dadjoint, dk, out, late
        )
