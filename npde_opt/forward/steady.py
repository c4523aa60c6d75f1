"""F(m) = observations of the steady states u_e of r(u_e; m) = f_e, r a sum of terms: r = A(m) u -
b_e(m) where it is linear. States and derivatives at a point are in steady_point.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficients
from npde_opt.errors import InputError
from npde_opt.forward.coefficients import check_coefficients, known_values
from npde_opt.forward.columns import Columns, blocks
from npde_opt.forward.equation import Equation
from npde_opt.forward.experiment import (
    Driving,
    Experiment,
    check_sources,
    check_values,
)
from npde_opt.forward.greens import Sensors, sensors
from npde_opt.forward.groups import Group
from npde_opt.forward.initial import InitialState
from npde_opt.forward.interface import Counters, check_alike
from npde_opt.forward.level import Level, pinned
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.steady_matrices import Matrices, sought_by_matrices
from npde_opt.forward.steady_point import Linearization
from npde_opt.forward.steady_product import plain_product
from npde_opt.forward.steady_systems import Block, LinearSystem, NonlinearSystem, System
from npde_opt.grids.pockets import check_fixed, check_free
from npde_opt.observations import DataLayout, Observations, Sampling
from npde_opt.parameters import ParameterSpace
from npde_opt.stages import stage
from npde_opt.terms.state import State


class Steady:
    """The forward map of a steady equation for several experiments on one grid.

    Linear equations of one species share one matrix and one multigrid set-up for all experiments,
    which are columns of one state where all terms take that (see columns.py).
    Others are solved by Newton's method (see steady_newton.py): at the first point from each
    experiment's `initial`, then from the state at the last point whose derivatives were asked for.

    Args:
        space: the unknowns.
        equation: the terms; its gamma is 1.
        known: numbers or owned arrays [i, j, k] of the coefficients that are not unknown.
        experiments: what drives them.
        samplings: what is observed of all experiments that have none of their own; without times.
        prefix: options prefix of the solves.
        recipe: of the linear solvers (see linear/).
        mean: of states whose level nothing holds: no flux (or what is given and adds up to 0) all
            round and no reaction; the equation is linear and symmetric (see level.py).
        once: for the states of one point alone, as data are simulated: no compiled loops are loaded
            for a handful of solves.

    Raises:
        InputError: for coefficients missing, known diffusivities that are not positive, or an
            operator that is singular (a part of the active cells with neither a Dirichlet or Robin
            side nor a reaction).
    """

    def __init__(
        self,
        space: ParameterSpace,
        equation: Equation,
        known: Coefficients,
        experiments: Sequence[Experiment],
        samplings: Sequence[Sampling] = (),
        prefix: str = "state_",
        recipe: str = "auto",
        mean: float | None = None,
        once: bool = False,
    ):
        self.space, self.grid, self.prefix = space, space.grid, prefix
        if equation.complex:
            raise InputError("gamma", equation.gamma, "1 for a steady equation")
        if equation.capacity is not None:
            said = "none for a steady equation, which has no du/dt"
            raise InputError("storage", repr(equation.capacity.said), said)
        for term in equation.terms:
            if term.timed:
                raise InputError(
                    "terms", f"{term.said} in time", "terms without t: it is steady"
                )
        self.equation = equation if mean is None else pinned(equation, mean)
        check_alike(self.grid.comm, experiments)
        self.experiments = tuple(experiments)
        self.known = known_values(self.grid, known)
        self.initials = [
            InitialState(self.grid, equation.species, e.initial, e.where)
            for e in experiments
        ]
        self.driving = [Driving(equation, e, timed=False) for e in experiments]
        terms = [*equation.terms, *(t for d in self.driving for t in d.parts)]
        check_coefficients(
            space, equation, self.known, self.initials, terms, zero=False
        )
        check_values(self.driving, self.known, np.zeros(1), space.blocks)
        check_sources(terms, self.known, space.blocks)
        (check_fixed if mean is None else check_free)(self.grid, self._held())
        own = [samplings if e.samplings is None else e.samplings for e in experiments]
        self.observed = Observations(self.grid, equation.species, (), own)
        self.counters = Counters()
        self._sensors: Sensors | None = None
        self._looked = False
        self.accepted: list[np.ndarray | None] = [None] * len(self.experiments)
        """States from which Newton's method starts."""
        with stage("setup"):
            self.part = LinearPart(self.equation, prefix, bounded=False)
            linear = all(term.stateless for term in equation.nonlinear)
            one = len(equation.species) == 1 and linear
            of = self.part, prefix, recipe, self.counters
            self.system: System = (
                LinearSystem(*of, len(self.experiments), once)
                if one
                else NonlinearSystem(*of)
            )
            if mean is not None and isinstance(self.system, LinearSystem):
                self.system.level = Level(self.grid, mean)
        numbers = range(len(self.experiments))
        together = one and equation.columns
        unknown = [u.name for u in space.unknowns]
        self.blocks: list[tuple[int, ...]] = (
            blocks(numbers, self.driving, unknown)
            if together
            else [(e,) for e in numbers]
        )
        """Experiments that are columns of one state."""
        self.matrices: Matrices | None = None
        """Derivatives as matrices, where those are cheaper than the terms' own."""
        named = sought_by_matrices(self.grid, self.equation, self.driving, unknown)
        if named and isinstance(self.system, LinearSystem) and mean is None:
            self.matrices = Matrices(self.grid, named, self.system)
        self.plain = plain_product(self.grid, space, self.matrices, self.observed)
        """The product with the Hessian, where there is little between the matrices."""
        if isinstance(self.system, LinearSystem) and self.system.level is not None:
            self._check_balance(self.system, self.system.level)

    def _held(self) -> np.ndarray:
        """The owned cells whose level a reaction holds."""
        held = np.zeros(self.grid.local_shape, bool)
        for term in self.equation.terms:
            if term.blocks and term.pointwise:
                held[...] = True
            for name in term.holding:
                held |= self.known[name] != 0 if name in self.known else np.array(True)
        return held

    def _check_balance(self, system: LinearSystem, level: Level) -> None:
        """Raises InputError where what drives states with a mean does not add up to 0, looked at
        for some values of the unknowns. Collective."""
        m = self.space.standard_normal(0)
        k = {**self.known, **self.space.at(m).coefficients()}
        m.destroy()
        linear = LinearPoint(self.part, k)
        parts = [*self.equation.nonlinear, *(t for d in self.driving for t in d.parts)]
        read = {name for part in parts for name in part.coefficients}
        sought = [u.name for u in self.space.unknowns if u.name in read]
        for members in self.blocks:
            try:
                level.check(system.driving(self.block(Columns(members), linear, k)))
            except InputError as error:
                if not sought:
                    raise
                said = f"sources and fluxes that do not add up to 0 for all {', '.join(sought)}"
                raise InputError(error.field, said, error.allowed) from error

    def block(self, columns: Columns, linear: LinearPoint, k: Coefficients) -> Block:
        """Experiments with what drives them at coefficients, which are those of `linear`."""
        terms = [t.at(k) for t in self.equation.nonlinear]
        terms += columns.driven(self.driving, k)
        outside = columns.boundary(self.driving, k).outside(0.0, 0.0)
        return Block(columns.members, linear, Group([], linear, terms), outside)

    @property
    def layouts(self) -> list[DataLayout]:
        """Of the blocks of data, one for the experiments that share all samplings."""
        return self.observed.layouts

    def linearize(
        self, m: PETSc.Vec, columns: Sequence[int] | None = None
    ) -> Linearization:
        """Solves the states of all experiments at m, or of those of which the numbers are given.
        Raises SolverError where a diffusivity is not positive or a solve diverges."""
        return Linearization(self, self.space.at(m), columns)

    def solve(
        self, block: Block, state: State, rhs: np.ndarray, adjoint: bool
    ) -> np.ndarray:
        """S u = rhs with the Jacobian at a block's state, or S^T u = rhs, shaped as rhs. Raises
        SolverError where the solve diverges."""
        if adjoint:
            self.counters.adjoint_solves += len(block.members)
        else:
            self.counters.forward_solves += len(block.members)
        return self.system.solve(block, state, rhs, adjoint)

    def sensors(self) -> Sensors | None:
        """The functionals by which Green's functions serve; None where they do not: of one matrix
        for all experiments. Collective."""
        if not self._looked:
            self._looked = True
            if isinstance(self.system, LinearSystem):
                count = len(self.experiments)
                self._sensors = sensors(self.grid, self.observed, count)
        return self._sensors

    def starts(self, e: int, k: Coefficients) -> list[np.ndarray]:
        """States from which Newton's method may start."""
        near = self.accepted[e]
        first = self.initials[e].value(k)
        return [first] if near is None else [near, first]

    def asked(self) -> dict[str, str]:
        """The tolerance of the solves, with its norm, by kind (see linear/measured.py)."""
        return self.system.asked

    @property
    def true_residual(self) -> float:
        """The largest |b - A x| / |b| of the linear solves that were checked."""
        return max((s.true_residual for s in self.system.solvers), default=0.0)

    def destroy(self) -> None:
        for kept in (self.matrices, self.plain):
            if kept is not None:
                kept.destroy()
        self.system.destroy()
        self.part.destroy()
        self.observed.destroy()
