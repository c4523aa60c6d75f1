"""The terms of an equation by how a scheme treats them: r_I(u) implicitly, r_E(u) explicitly, each
with its derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from npde_opt.aliases import Coefficients
from npde_opt.forward.linear_part import LinearPoint
from npde_opt.forward.schemes import Scheme
from npde_opt.terms.interface import TermAt
from npde_opt.terms.state import Gradients, State


class Group:
    """The terms that one tableau treats: the linear ones (matrices) or none, and others.

    Args:
        keeps: keep the last residual: a step begins where the one before, or its Newton's method,
            has ended.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[float]],
        linear: LinearPoint | None,
        others: Sequence[TermAt],
        keeps: bool = False,
    ):
        self.rows, self.linear, self.others = rows, linear, list(others)
        self.empty = linear is None and not self.others
        self._always = all(
            p.term.constant if p.term.stateless else not p.term.timed
            for p in self.others
        )
        self._keeps = keeps
        self._last: tuple[State, np.ndarray] | None = None

    def weight(self, i: int, j: int) -> float:
        """Of r(U_j) in stage i; 0 where the group is empty."""
        return 0.0 if self.empty else self.rows[i - 1][j]

    def residual(self, state: State) -> np.ndarray:
        """r(u, t), which stays the group's."""
        if self._last is not None:
            last, found = self._last
            if self.alike(last, state):
                return found
        found = self._residual(state)
        if self._keeps:
            self._last = state, found
        return found

    def alike(self, one: State, other: State) -> bool:
        """Whether two states of the same values have the same rates, as one at the end of a step
        and that at the start of the next."""
        if one.u is not other.u or one.outside is not other.outside:
            return False
        return self._always or (one.t, one.middle) == (other.t, other.middle)

    def _residual(self, state: State) -> np.ndarray:
        out = self.linear.product(state.u) if self.linear else np.zeros_like(state.u)
        load = self.load(state)
        if load is not None:
            # Columns may share one.
            out -= load if load.ndim == out.ndim else load[:, None]
        for point in self.others:
            out += point.residual(state)
        return out

    def load(self, state: State) -> np.ndarray | None:
        """b of the linear terms, from the boundary values of a state."""
        return self.linear.load(state.outside) if self.linear else None

    def jacobian(self, state: State, change: State) -> np.ndarray:
        out = self.linear.product(change.u) if self.linear else np.zeros_like(change.u)
        for point in self.others:
            out += point.jacobian(state, change)
        return out

    def derivative(self, state: State, dk: Coefficients) -> np.ndarray | float:
        total: np.ndarray | float = (
            self.linear.derivative(state, dk) if self.linear else 0.0
        )
        for point in self.others:
            total = total + point.derivative(state, dk)
        moved = state.carrying(np.zeros_like(state.u), dk)
        return total if moved is None else total + self._beside(state, moved)

    def _beside(self, state: State, moved: State) -> np.ndarray:
        """r_g dg, of a change that is 0 inside."""
        load = self.load(moved)
        out = np.zeros_like(state.u) if load is None else -load
        for point in self.others:
            if not (point.term.pointwise or point.term.stateless):
                out += point.jacobian(state, moved)
        return out

    @contextmanager
    def _outer(self, state: State, out: Gradients | None) -> Iterator[None]:
        """Of what is added to `out` inside, the cotangents of boundary values go on to those of
        their coefficients."""
        outside = state.outside
        sought = (
            outside.sought(out) if outside is not None and out is not None else None
        )
        if out is None or outside is None or sought is None:
            yield
            return
        out.outer = sought
        try:
            yield
            outside.pull(sought, out)
        finally:
            out.outer = None

    def _curved(
        self, state: State, adjoint: State, dk: Coefficients, out: Gradients
    ) -> None:
        """Adds (g_kk dk)^T r_g^T lambda."""
        outside = state.outside
        sought = outside.sought(out) if outside is not None else None
        if outside is None or sought is None:
            return
        alone = Gradients({})
        alone.outer = sought
        if self.linear:
            self.linear.outer(adjoint, alone)
        for point in self.others:
            if not (point.term.pointwise or point.term.stateless):
                point.contraction(state, adjoint, alone)
        outside.second(sought, dk, out)

    def jacobian_transpose(
        self, state: State, adjoint: State, out: Gradients | None = None
    ) -> np.ndarray:
        """r'^T nu; with `out` also the contraction of r_k."""
        total = (
            self.linear.product(adjoint.u, True)
            if self.linear
            else np.zeros_like(adjoint.u)
        )
        with self._outer(state, out):
            if self.linear and out is not None:
                self.linear.contraction(state, adjoint, out)
            for point in self.others:
                total += point.jacobian_transpose(state, adjoint, out)
        return total

    def contraction(self, state: State, adjoint: State, out: Gradients) -> None:
        with self._outer(state, out):
            if self.linear:
                self.linear.contraction(state, adjoint, out)
            for point in self.others:
                point.contraction(state, adjoint, out)

    def second(
        self,
        state: State,
        adjoint: State,
        change: State,
        dk: Coefficients,
        out: Gradients,
    ) -> np.ndarray:
        total = np.zeros_like(state.u)
        moved = state.carrying(change.u, dk) or change
        with self._outer(state, out):
            if self.linear:
                total += self.linear.second(state, adjoint, moved, dk, out)
            for point in self.others:
                total += point.second(state, adjoint, moved, dk, out)
        self._curved(state, adjoint, dk, out)
        return total


def treated(
    scheme: Scheme, linear: LinearPoint | None, terms: Sequence[TermAt]
) -> tuple[Group, Group]:
    """(implicit, explicit), of the linear terms and others. Sources go with the linear terms."""
    if not scheme.linear_implicit:
        return Group(scheme.implicit, None, []), Group(scheme.explicit, linear, terms)
    if scheme.nonlinear_implicit:
        implicit = Group(scheme.implicit, linear, terms, keeps=True)
        return implicit, Group(scheme.explicit, None, [])
    sources = [p for p in terms if p.term.stateless]
    reactions = [p for p in terms if not p.term.stateless]
    implicit = Group(scheme.implicit, linear, sources)
    return implicit, Group(scheme.explicit, None, reactions)
