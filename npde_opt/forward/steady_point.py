"""A steady equation at one point of the parameters: its states, F, and the derivatives of F.

With the Jacobian S = r_u at u_e (A where the equation is linear):
    J dm = g'(u) du,                     S du = -r_m dm                       (incremental state)
    J^T d = -r_m^T lambda,               S^T lambda = g'(u)^T d               (adjoint)
and the second derivative of d^T F(m) in direction dm is
    -r_mu^T(lambda, du) - r_mm^T(lambda, dm) - r_m^T dlambda,
    S^T dlambda = (g''(u) du)^T d - r_uu^T(lambda, du) - r_um^T(lambda, dm).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from petsc4py import PETSc

from npde_opt import reductions
from npde_opt.aliases import Coefficient, Coefficients
from npde_opt.errors import SolverError
from npde_opt.forward.columns import Columns
from npde_opt.forward.equation import Equation
from npde_opt.forward.experiment import (
    Driving,
    check_sources,
    check_values,
)
from npde_opt.forward.greens import Greens, Sensors, batches
from npde_opt.forward.interface import ForwardMap
from npde_opt.forward.linear_part import LinearPart, LinearPoint
from npde_opt.forward.positivity import check_diffusivities
from npde_opt.forward.steady_matrices import Matrices, Seen
from npde_opt.forward.steady_product import PlainProduct
from npde_opt.forward.steady_systems import Block, LinearSystem, System
from npde_opt.linear.accuracy import kept_solves
from npde_opt.observations import DataBlock, Metric, Observations
from npde_opt.parameters import ParametersAt
from npde_opt.terms.state import Gradients, State


class Steady(ForwardMap, Protocol):
    """What a point asks of its forward map; see steady.py."""

    prefix: str
    equation: Equation
    known: dict[str, np.ndarray]
    driving: list[Driving]
    observed: Observations
    part: LinearPart
    system: System
    blocks: list[tuple[int, ...]]
    matrices: Matrices | None
    plain: PlainProduct | None
    accepted: list[np.ndarray | None]

    def block(
        self, columns: Columns, linear: LinearPoint, k: Coefficients
    ) -> Block: ...
    def solve(
        self, block: Block, state: State, rhs: np.ndarray, adjoint: bool
    ) -> np.ndarray: ...
    def sensors(self) -> Sensors | None: ...
    def starts(self, e: int, k: Coefficients) -> list[np.ndarray]: ...


@dataclass
class Adjoints:
    """Data multipliers, the adjoint states by block of experiments, and dJ/dk."""

    data: list[DataBlock]
    states: list[State]
    gradient: Gradients


class Linearization:
    """F at one point, with its derivatives there.

    Args:
        columns: numbers of the experiments; None: all.

    Attributes:
        data: F, in blocks.
        members: numbers of the experiments.
        final: their states [c, i, j, k].
    """

    def __init__(
        self,
        forward: Steady,
        parameters: ParametersAt,
        columns: Sequence[int] | None = None,
    ):
        self.forward, self.parameters, self.grid = forward, parameters, forward.grid
        equation = forward.equation
        self.members, self.observed = (
            list(range(len(forward.experiments))),
            forward.observed,
        )
        if columns is not None:
            self.members, self.observed = list(columns), forward.observed.over(columns)
        self.k: dict[str, Coefficient] = {**forward.known, **parameters.coefficients()}
        names = {u.name for u in forward.space.unknowns}
        check_diffusivities(
            self.grid,
            forward.prefix,
            [n for n in equation.positive if n in names],
            self.k,
        )
        self.linear = LinearPoint(forward.part, self.k)
        self.linear.check(forward.prefix)
        check_values(forward.driving, self.k, np.zeros(1), names, forward.prefix)
        own = (t for d in forward.driving for t in d.terms)
        check_sources([*equation.terms, *own], self.k, names, forward.prefix)
        asked = set(self.members)
        parts = [tuple(e for e in members if e in asked) for members in forward.blocks]
        self.blocks = [
            forward.block(Columns(members), self.linear, self.k)
            for members in parts
            if members
        ]
        self.states_at: list[State] = []
        """Those of the blocks."""
        self.data = self.observed.zeros()
        self._greens: Greens | None = None
        self._spent = 0
        """Solves that Green's functions would have spared."""
        for block in self.blocks:
            self._run(block)

    def _run(self, block: Block) -> None:
        """The states of a block and their data."""
        forward, first = self.forward, block.members[0]
        state = forward.system.state(block, lambda: forward.starts(first, self.k))
        self.states_at.append(state)
        forward.counters.forward_solves += len(block.members)
        self.observed.observe(block.members, 0, state.u, self.data)
        self._check_data(block)

    def _check_data(self, block: Block) -> None:
        parts = self.observed.parts(block.members, self.data)
        finite = all(np.isfinite(values).all() for values in parts)
        if not reductions.everywhere(self.grid.comm, bool(finite)):
            raise SolverError(
                self.forward.prefix,
                "a predicted datum is not finite",
                "Look for an observed quantity that is not defined for the state.",
            )

    def _by_experiment(self) -> dict[int, np.ndarray]:
        """The states."""
        pairs = zip(self.blocks, self.states_at, strict=True)
        return {e: u for block, state in pairs for e, u in block.each(state.u)}

    @property
    def final(self) -> list[np.ndarray]:
        found = self._by_experiment()
        return [found[e] for e in self.members]

    def states(self, e: int) -> Iterator[np.ndarray]:
        """The state of an experiment, once [c, i, j, k]."""
        yield self._by_experiment()[e]

    def _solve(self, b: int, rhs: np.ndarray, adjoint: bool) -> State:
        found = self.forward.solve(self.blocks[b], self.states_at[b], rhs, adjoint)
        return State(self.grid, found)

    def _formed(self, solves: int) -> Greens | None:
        """Green's functions, where products have cost, with `solves` more, what they cost; of a
        part of the experiments none. Collective."""
        system, whole = self.forward.system, self.observed is self.forward.observed
        sensors = self.forward.sensors() if whole else None
        if sensors is None or not isinstance(system, LinearSystem):
            return None
        kept = self._greens
        if kept is not None and kept.exactness <= system.exactness:
            return kept
        self._spent += solves
        if self._spent < sensors.count:
            return None

        def solve(block: Block, rhs: np.ndarray) -> np.ndarray:
            return self.forward.solve(block, State(self.grid, rhs), rhs, True)

        with kept_solves():
            self._greens = Greens(
                sensors, self.observed, self.blocks[0], solve, system.exactness
            )
        return self._greens

    def _gradients(self) -> Gradients:
        return Gradients(self.forward.space.blocks)

    def _accept(self) -> None:
        """The point is one that the search goes on from."""
        for e, u in self._by_experiment().items():
            self.forward.accepted[e] = u

    def _change(self, b: int, dk: Coefficients) -> np.ndarray:
        """-r_m dm of a block."""
        rhs = self.states_at[b].zeros()
        rhs -= self.blocks[b].group.derivative(self.states_at[b], dk)
        return rhs

    def _incremental(self, b: int, dk: Coefficients) -> State:
        """du of a block."""
        return self._solve(b, self._change(b, dk), False)

    def apply(self, dm: PETSc.Vec) -> list[DataBlock]:
        """J dm, blocks as those of `data`."""
        self._accept()
        dk, out = self.parameters.push(dm), self.observed.zeros()
        greens = self._formed(len(self.members))
        if greens is not None:
            for some in batches(self.blocks):
                rhs = [self._change(b, dk) for b in some]
                greens.see([self.blocks[b] for b in some], rhs, out)
            return out
        for b, block in enumerate(self.blocks):
            du = self._incremental(b, dk)
            self.observed.push(block.members, 0, self.states_at[b].u, du.u, out)
        return out

    def adjoint_states(self, d: Sequence[DataBlock]) -> Adjoints:
        """lambda of all experiments for the data multipliers d, and what follows for the
        coefficients."""
        self._accept()
        self.linear.discard()
        found = Adjoints([own.copy() for own in d], [], self._gradients())
        inner = self._gradients()
        found.states.extend(self._adjoint_states(found.data))
        for b, block in enumerate(self.blocks):
            matrices = self._matrices(b, None)
            if matrices is not None:
                matrices.contraction(found.states[b], inner)
            else:
                block.group.contraction(self.states_at[b], found.states[b], inner)
        self.linear.flush(inner)
        found.gradient.subtract(inner)
        self._check_derivatives(found.gradient)
        return found

    def _adjoint_states(self, d: Sequence[DataBlock]) -> Iterator[State]:
        """Those of the blocks for data multipliers."""
        greens = self._formed(len(self.members))
        if greens is not None:
            for some in batches(self.blocks):
                for u in greens.spread([self.blocks[b] for b in some], d):
                    yield State(self.grid, u)
            return
        for b, block in enumerate(self.blocks):
            rhs = self.states_at[b].zeros()
            self.observed.pull(block.members, 0, self.states_at[b].u, d, rhs)
            yield self._solve(b, rhs, True)

    def _check_derivatives(self, gradient: Gradients) -> None:
        """Raises SolverError where one is not finite."""
        good = all(np.isfinite(value).all() for value in gradient.values.values())
        if not reductions.everywhere(self.grid.comm, bool(good)):
            raise self._not_finite()

    def _not_finite(self) -> SolverError:
        return SolverError(
            self.forward.prefix,
            "a derivative is not finite",
            "Look for rates, diffusivities or observed quantities that are singular there.",
        )

    def apply_adjoint(
        self, d: Sequence[DataBlock], adjoints: Adjoints | None = None
    ) -> PETSc.Vec:
        """J^T d. The caller destroys the Vec."""
        found = self.adjoint_states(d) if adjoints is None else adjoints
        out = self.forward.space.create_vec()
        self.parameters.pull(found.gradient.values, out)
        return out

    def hessian(
        self,
        dm: PETSc.Vec,
        metrics: Sequence[Metric],
        out: PETSc.Vec,
        adjoints: Adjoints | None,
    ) -> None:
        """Adds J^T W J dm and, where the misfit's adjoint states are given, the second-order term,
        with one incremental state and one incremental adjoint an experiment."""
        self.linear.discard()
        greens = self._formed(2 * len(self.members)) if adjoints is None else None
        plain = self._plain(adjoints) if greens is None else None
        if plain is not None:
            self._add_plainly(plain, dm, metrics[0], out, adjoints)
            return
        dk, total, inner = (
            self.parameters.push(dm),
            self._gradients(),
            self._gradients(),
        )
        images = self.observed.zeros()
        if greens is not None:
            for some in batches(self.blocks):
                self._by_greens(greens, some, metrics, dk, images, inner)
        else:
            for b in range(len(self.blocks)):
                self._second(b, metrics, dk, adjoints, images, inner)
        self.linear.flush(inner)
        total.subtract(inner)
        self._check_derivatives(total)
        if adjoints is not None:
            self.parameters.pull_second(adjoints.gradient.values, dm, out)
        self.parameters.pull(total.values, out)

    def _plain(self, adjoints: Adjoints | None) -> PlainProduct | None:
        """Where it applies, at this point. Collective."""
        found = self.forward.plain
        if found is None or self.observed is not self.forward.observed:
            return None
        return found if self._matrices(0, adjoints) is not None else None

    def _add_plainly(
        self,
        plain: PlainProduct,
        dm: PETSc.Vec,
        metric: Metric,
        out: PETSc.Vec,
        adjoints: Adjoints | None,
    ) -> None:
        name, counters = plain.unknown.name, self.forward.counters
        curved = None if adjoints is None else adjoints.gradient.values[name]
        given = self.blocks[0], self.parameters, dm, metric, curved, counters, out
        if not plain.add(*given):
            raise self._not_finite()

    def _by_greens(
        self,
        greens: Greens,
        some: Sequence[int],
        metrics: Sequence[Metric],
        dk: Coefficients,
        images: Sequence[DataBlock],
        inner: Gradients,
    ) -> None:
        """Adds some blocks' part of the Gauss-Newton product, without a solve."""
        blocks = [self.blocks[b] for b in some]
        greens.see(blocks, [self._change(b, dk) for b in some], images)
        for block in blocks:
            self.observed.weigh(block.members, metrics, images)
        adjoints = greens.spread(blocks, images)
        for b, block, adjoint in zip(some, blocks, adjoints, strict=True):
            state = State(self.grid, adjoint)
            block.group.contraction(self.states_at[b], state, inner)

    def _second(
        self,
        b: int,
        metrics: Sequence[Metric],
        dk: Coefficients,
        adjoints: Adjoints | None,
        images: Sequence[DataBlock],
        inner: Gradients,
    ) -> None:
        """Adds a block's part of the Hessian product; its columns of `images` get W J dk."""
        block, state, observed = self.blocks[b], self.states_at[b], self.observed
        matrices = self._matrices(b, adjoints)
        if matrices is not None:
            multipliers = None if adjoints is None else adjoints.data
            seen = Seen(observed, metrics, multipliers, images)
            matrices.product(block, dk, seen, self.forward.counters, inner)
            return
        du, rhs = self._incremental(b, dk), state.zeros()
        observed.push(block.members, 0, state.u, du.u, images)
        observed.weigh(block.members, metrics, images)
        observed.pull(block.members, 0, state.u, images, rhs)
        if adjoints is not None:
            observed.second(block.members, 0, state.u, du.u, adjoints.data, rhs)
            rhs -= block.group.second(state, adjoints.states[b], du, dk, inner)
        block.group.contraction(state, self._solve(b, rhs, True), inner)

    def _matrices(self, b: int, adjoints: Adjoints | None) -> Matrices | None:
        """The derivatives of a block as matrices; None where they are not. Collective."""
        found, block = self.forward.matrices, self.blocks[b]
        if found is None or len(block.members) > 1:
            return None
        adjoint = None if adjoints is None else adjoints.states[b]
        return found if found.take(block, self.states_at[b], adjoint) else None

    def destroy(self) -> None:
        """Nothing: states and data are arrays."""
