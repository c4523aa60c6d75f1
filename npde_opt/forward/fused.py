"""Explicit Euler steps of u_s' = D_s lap u_s + R_s(u; theta) with constant D_s on uniform grids, fused over cache blocks:

    step      u+ = (1 - 2 dt D sum_d w_d) u + dt D sum_d w_d (u_- + u_+) + dt R(u; theta),    w_d = 1/h_d^2
    adjoint   lambda = the same with R'(u)^T,   dJ/dD += dt <u, lap lambda>,   dJ/dtheta += dt R_theta^T lambda.

Equal to the assembled step to rounding, without matrices: each block of a few thousand cells stays in cache between the
operations on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npde_opt.forward.stepper import Stages, Stepper
from npde_opt.grids import AXES
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.kinetics import KineticsAt
from npde_opt.terms.state import Gradients, add

BLOCK = 8192


def applies(stepper: Stepper, coefficients: dict[str, Any]) -> bool:
    """Whether the fused step is the same as the stepper's."""
    grid, linear, group = stepper.grid, stepper.linear, stepper.groups[1]
    if stepper.scheme.name != "explicit-euler" or linear is None or linear.part.equation.complex or stepper.load is not None:
        return False
    terms = [t for o in linear.operators for t in o.terms]
    return (len(group.others) == 1 and isinstance(group.others[0], KineticsAt) and grid.active_global is None
            and all(b.kind in ("neumann", "periodic") for b in grid.boundaries.values())
            and all(np.allclose(w, w[0], rtol=1e-12) for w in grid.widths)
            and all(len(o.terms) == 1 for o in linear.operators)
            and all(isinstance(t, Diffusion) and len(set(t.names)) == 1 and np.ndim(coefficients[t.names[0]]) == 0
                    for t in terms))


class FusedEuler(Stepper):
    """The stepper with its step and adjoint replaced."""

    def __init__(self, stepper: Stepper, coefficients: dict[str, Any]):
        super().__init__(stepper.grid, stepper.scheme, stepper.groups, stepper.times, stepper.outside, None,
                         stepper.solvers)
        assert self.linear is not None
        self.kinetics: KineticsAt = self.groups[1].others[0]  # type: ignore[assignment]
        count = self.kinetics.count
        self.names: list[str | None] = [None] * count
        self.D = np.zeros(count)
        for operator in self.linear.operators:
            ((c, _, factor),) = operator.pattern
            self.names[c] = operator.terms[0].coefficients[0]
            self.D[c] = factor * float(coefficients[operator.terms[0].coefficients[0]])
        self.factor = 1 / self.linear.part.equation.gamma.real
        self.squares = [1 / float(w[0]) ** 2 for w in self.grid.widths]
        self.fields = [np.ndim(p) > 0 for p in self.kinetics.parameters]
        self.parameters = [np.asarray(p).T for p in self.kinetics.parameters]
        self.volume = float(np.prod([w[0] for w in self.grid.widths]))
        self._sums: list[Any] = []
        self._slopes = np.zeros(count)

    def _blocks(self) -> Iterator[slice]:
        """Slices of the slowest axis in blocks of about BLOCK cells."""
        n = self.grid.local_shape[-1]
        thick = max(1, BLOCK // max(1, int(np.prod(self.grid.local_shape[:-1]))))
        for a in range(0, n, thick):
            yield slice(a, min(a + thick, n))

    def _padded(self, u: np.ndarray) -> list[np.ndarray]:
        """Species with ghosts, slowest axis first; the values at Neumann sides are mirrored."""
        grid, out = self.grid, []
        for c in range(len(u)):
            field = grid.ghosted(u[c])
            for d in range(grid.dim):
                for side, ghost, inner, edge in (("-", 0, 1, grid.start[d] == 0), ("+", -1, -2, grid.stop[d] == grid.shape[d])):
                    if edge and grid.boundaries[AXES[d] + side].kind == "neumann":
                        to: list[Any] = [slice(None)] * grid.dim
                        source = to.copy()
                        to[d], source[d] = ghost, inner
                        field[tuple(to)] = field[tuple(source)]
            out.append(field.T)
        return out

    def _neighbours(self, padded: np.ndarray, block: slice) -> np.ndarray:
        """sum_d w_d (u_- + u_+) over a block; axis 0 of `padded` is the slowest one."""
        dim = self.grid.dim
        inner = [slice(block.start + 1, block.stop + 1), *[slice(1, -1)] * (dim - 1)]
        total: np.ndarray | None = None
        for axis in range(dim):
            lower, upper = inner.copy(), inner.copy()
            a = inner[axis]
            lower[axis] = slice(a.start - 1, a.stop - 1 if a.stop > 0 else a.stop - 1)
            upper[axis] = slice(a.start + 1, a.stop + 1 if a.stop != -1 else None)
            w = self.squares[dim - 1 - axis]
            pair = padded[tuple(lower)] + padded[tuple(upper)]
            if total is None:
                total, first = pair, w
            elif w == first:
                total += pair
            else:
                total += (w / first) * pair
        assert total is not None
        total *= self.squares[dim - 1]
        return total

    def _given(self, block: slice) -> list[Any]:
        return [p[block] if field else p for p, field in zip(self.parameters, self.fields, strict=True)]

    def step(self, n: int, u: np.ndarray) -> Stages:
        dt, padded, out = self.dt(n), self._padded(u), np.empty_like(u)
        diagonal = 2 * sum(self.squares)
        for block in self._blocks():
            own = [u[c].T[block] for c in range(len(u))]
            rates = self.kinetics.expressions.value(*own, *self._given(block))
            for c, rate in enumerate(rates):
                target = out[c].T[block]
                np.multiply(rate, dt * self.factor, out=target)
                self._diffuse(c, dt, padded[c], own[c], block, diagonal, target)
        return [u, out]

    def _diffuse(self, c: int, dt: float, padded: np.ndarray, own: np.ndarray, block: slice, diagonal: float,
                 target: np.ndarray) -> None:
        """Adds u + dt D lap u."""
        if self.D[c] == 0:
            target += own
            return
        near = self._neighbours(padded, block)
        near *= dt * self.D[c]
        target += near
        target += (1 - dt * self.D[c] * diagonal) * own

    def adjoint(self, n: int, stages: Stages, adjoint: np.ndarray, out: Gradients | None,
                guess: Stages | None = None) -> tuple[np.ndarray, Stages]:
        dt, u, padded = self.dt(n), stages[0], self._padded(adjoint)
        result, count, diagonal = np.empty_like(u), len(u), 2 * sum(self.squares)
        if not self._sums:
            self._sums = [np.zeros_like(p) if field else 0.0 for p, field in zip(self.parameters, self.fields, strict=True)]
        for block in self._blocks():
            own, late = [[a[c].T[block] for c in range(count)] for a in (u, adjoint)]
            parts = self.kinetics.expressions.pull(*own, *self._given(block), *late)
            for c in range(count):
                target = result[c].T[block]
                np.multiply(parts[c], dt * self.factor, out=target)
                self._diffuse_back(c, dt, padded[c], late[c], own[c], block, diagonal, target, out is not None)
            if out is not None:
                self._collect(block, dt, parts[count:])
        return result, [np.empty(0), adjoint / self.volume] if out is None else []

    def _diffuse_back(self, c: int, dt: float, padded: np.ndarray, late: np.ndarray, own: np.ndarray, block: slice,
                      diagonal: float, target: np.ndarray, collect: bool) -> None:
        if self.D[c] == 0:
            target += late
            return
        change = self._neighbours(padded, block)
        change -= diagonal * late
        change *= dt * self.factor
        if collect:
            self._slopes[c] += float((own * change).sum())
        change *= self.D[c] / self.factor
        target += change
        target += late

    def _collect(self, block: slice, dt: float, parts: list[Any]) -> None:
        for i, (part, field) in enumerate(zip(parts, self.fields, strict=True)):
            if field:
                self._sums[i][block] += (dt * self.factor) * part
            else:
                self._sums[i] += dt * self.factor * float(np.sum(np.broadcast_to(part, self._shape(block))))

    def _shape(self, block: slice) -> tuple[int, ...]:
        return (block.stop - block.start, *self.grid.local_shape[-2::-1])

    def flush(self, out: Gradients) -> None:
        super().flush(out)
        for name, total, field in zip(self.kinetics.names, self._sums, self.fields, strict=bool(self._sums)):
            add(out, name, -total.T if field else -total)
        for name, slope in zip(self.names, self._slopes, strict=True):
            if name is not None and self._sums:
                add(out, name, -slope)
        self._sums, self._slopes = [], np.zeros(len(self._slopes))
