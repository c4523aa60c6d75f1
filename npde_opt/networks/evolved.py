"""A time step of an equation as a layer: its coefficients, fields or numbers, are weights.

    gamma M du/dt = -r(u; k),   u' = one step of a scheme from u

with the terms, matrices and solvers of the house (see forward/stepper.py); channels are species.
With gamma = i and Crank-Nicolson it is unitary,

    u' = (I + i dt/2 H)^-1 (I - i dt/2 H) u,   H = -div(D grad) + V,

on states of two channels, the real and the imaginary part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.equation import COMPLEX, Equation
from npde_opt.forward.groups import treated
from npde_opt.forward.layer import Stages
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.schemes import scheme as scheme_of
from npde_opt.forward.step_solvers import StepSolvers
from npde_opt.forward.stepper import Stepper
from npde_opt.grids import Grid
from npde_opt.networks.interface import Values, Weight
from npde_opt.networks.matrices import on_channels
from npde_opt.networks.of_equation import OfEquation, back, states
from npde_opt.networks.template import Sums
from npde_opt.terms import Diffusion, Reaction
from npde_opt.terms.boundary import BoundaryValues
from npde_opt.terms.state import Gradients

PREFIX = "state_"


class Evolved(OfEquation):
    """A layer of one time step.

    Args:
        equation: its species are the channels.
        weights: by the names of coefficients: numbers, of shape (), or fields of the grid's cells,
            of shape [k, j, i].
        known: the other coefficients.
        scheme: see forward/schemes.py.
        dt: the step.
        recipe: of the linear solvers.

    Raises:
        InputError: for coefficients without a value, weights of other shapes, nonlinear terms that
            the scheme treats implicitly, and a step that is none.
    """

    def __init__(
        self,
        equation: Equation,
        weights: Mapping[str, Weight],
        known: Coefficients,
        scheme: str,
        dt: float,
        recipe: str = "auto",
    ):
        super().__init__(equation, weights, known)
        self.scheme, self.dt = scheme_of(scheme), dt
        if not 0 < dt < np.inf:
            raise InputError("dt", dt, "a number > 0")
        if equation.nonlinear and self.scheme.nonlinear_implicit:
            allowed = "one that treats nonlinear terms explicitly, as imex-euler does"
            raise InputError("scheme", self.scheme.name, allowed)
        self.part = LinearPart(equation)
        self.solvers = StepSolvers(self.part, PREFIX, recipe)
        self._destroyed = False

    def at(self, k: Values, x: np.ndarray | None) -> EvolvedAt:
        return EvolvedAt(self, k)

    def matrix(self, k: Values) -> PETSc.Mat:
        """M^-1 A of the linear terms, M du/dt = -A u, at weights k. The caller destroys it.
        Collective."""
        self.part.assemble(self.at(k, None).linear.points)
        count = len(self.equation.species)
        inverse = self.part.mass_vec.copy()
        inverse.reciprocal()
        found: PETSc.Mat | None = None
        for matrix, operator in zip(
            self.part.matrices, self.equation.operators, strict=True
        ):
            pattern = np.zeros((count, count))
            for row, column, factor in operator.pattern:
                pattern[row, column] += factor
            A = matrix.mat.copy()
            A.diagonalScale(inverse, None)
            part = on_channels(A, pattern)
            A.destroy()
            if found is None:
                found = part
                continue
            found.axpy(1.0, part)
            part.destroy()
        inverse.destroy()
        if found is None:
            raise InputError("equation", "no linear terms", "at least one")
        return found

    def destroy(self) -> None:
        if not self._destroyed:
            self.solvers.destroy()
            self.part.destroy()
        self._destroyed = True


class EvolvedAt:
    """The step at one point; see forward/layer.py. Its stages are those of the scheme."""

    def __init__(self, of: Evolved, k: Values):
        self.of = of
        coefficients = of.coefficients(k)
        self.linear = LinearPoint(of.part, coefficients)
        self.linear.check(PREFIX)
        terms = [term.at(coefficients) for term in of.equation.nonlinear]
        linear = self.linear if of.equation.operators else None
        groups = treated(of.scheme, linear, terms)
        still = BoundaryValues(of.grid, ()).at({})
        times = np.array([0.0, of.dt])
        self.stepper = Stepper(of.grid, of.scheme, groups, times, still, of.solvers)

    def _ready(self) -> None:
        """Puts this point's operators into the matrices, where they are not there already."""
        self.of.part.assemble(self.linear.points)

    def _finish(self, found: Gradients, out: Sums) -> None:
        self.stepper.flush(found)
        self.of.add(found, out)

    def step(self, u: np.ndarray) -> Stages:
        self._ready()
        stages = self.stepper.step(0, states(u))
        return [u, *(back(x, u) for x in stages[1:])]

    def tangent(
        self,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None,
    ) -> Stages:
        self._ready()
        found = self.stepper.tangent(0, each(stages), states(du), self.of.moved(dk))
        return [du, *(back(x, du) for x in found[1:])]

    def adjoint(
        self,
        stages: Stages,
        adjoint: np.ndarray,
        out: Sums | None,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        self._ready()
        self.stepper.discard()
        found = self.of.gradients() if out is not None else None
        first, kept = self.stepper.adjoint(0, each(stages), states(adjoint), found)
        if found is not None and out is not None:
            self._finish(found, out)
        return back(first, adjoint), kept

    def second(
        self,
        stages: Stages,
        changes: Stages,
        multipliers: Stages,
        dadjoint: np.ndarray,
        dk: Coefficients,
        out: Sums,
        late: Sequence[Stages],
    ) -> tuple[np.ndarray, Stages]:
        self._ready()
        self.stepper.discard()
        found = self.of.gradients()
        given = each(stages), each(changes), multipliers, states(dadjoint)
        first, kept = self.stepper.second(0, *given, self.of.moved(dk), found)
        self._finish(found, out)
        return back(first, dadjoint), kept


def each(stages: Stages) -> Stages:
    return [states(u) for u in stages]


def unitary(
    grid: Grid,
    dt: float,
    potential: Weight | None = None,
    coupling: Weight | None = None,
    recipe: str = "auto",
) -> Evolved:
    """(I + i dt/2 H)^-1 (I - i dt/2 H) with H = -div(D grad) + V.

    Args:
        potential: V, [k, j, i] or a number; None: 0.
        coupling: D, which has to be positive; None: 1.
    """
    given = {"V": potential, "D": coupling}
    weights = {name: weight for name, weight in given.items() if weight is not None}
    terms = [Diffusion(grid, "D"), Reaction(grid, "V")]
    equation = Equation(grid, terms, COMPLEX, 1j)
    known = {
        name: value for name, value in (("V", 0.0), ("D", 1.0)) if name not in weights
    }
    return Evolved(equation, weights, known, "crank-nicolson", dt, recipe)
