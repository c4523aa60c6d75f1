"""Explicit Euler steps of u_s' = D_s lap u_s + R_s(u; theta) with constant D_s on uniform grids, in
one pass over the cells:

    step      u+ = u + dt (D sum_d w_d (u_- + u_+ - 2 u) + R(u; theta)),    w_d = 1/h_d^2
    tangent   du+ = du + dt (D lap du + dD lap u + R_u du + R_theta dtheta)
    adjoint   lambda = the same with R'(u)^T,   dJ/dD += dt <u, lap lambda>,
              dJ/dtheta += dt R_theta^T lambda
    second    the derivative of the adjoint along (du, dD, dtheta).

Equal to the assembled step to rounding, without matrices: loops written for the reaction at hand
and compiled by numba. Arithmetic is in double precision, also where states are kept in single.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.compiling import compiled_source
from npde_opt.errors import InputError
from npde_opt.forward.ghosted import Store
from npde_opt.forward.layer import Stages
from npde_opt.forward.stepper import Stepper
from npde_opt.functions.text import Expressions
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.kinetics import KineticsAt
from npde_opt.terms.state import Gradients

PRECISIONS = {"double": np.float64, "single": np.float32}


def dtype_of(precision: str) -> np.dtype:
    """Of states. Raises InputError for another word than those of PRECISIONS."""
    if precision not in PRECISIONS:
        raise InputError("precision", repr(precision), ", ".join(PRECISIONS))
    return np.dtype(PRECISIONS[precision])


def applies(stepper: Stepper, coefficients: Coefficients) -> bool:
    """Whether the fused step is the same as the stepper's."""
    grid, linear, group = stepper.grid, stepper.linear, stepper.groups[1]
    if (
        stepper.scheme.name != "explicit-euler"
        or linear is None
        or linear.part.equation.complex
        or stepper.boundary.any
        or stepper.capacity is not None
    ):
        return False
    terms = [t for o in linear.operators for t in o.terms]
    return (
        len(group.others) == 1
        and isinstance(group.others[0], KineticsAt)
        and not group.others[0].expressions.functions
        and not group.others[0].term.timed
        and grid.active_global is None
        and not grid.radial
        and all(b.kind in ("neumann", "periodic") for b in grid.boundaries.values())
        and all(np.allclose(w, w[0], rtol=1e-12, atol=0) for w in grid.widths)
        and all(len(o.terms) == 1 for o in linear.operators)
        and all(
            isinstance(t, Diffusion)
            and len(set(t.names)) == 1
            and np.ndim(coefficients[t.names[0]]) == 0
            for t in terms
        )
    )


class FusedEuler(Stepper):
    """The stepper with its step and all derivatives replaced."""

    def __init__(self, stepper: Stepper, coefficients: Coefficients):
        super().__init__(
            stepper.grid,
            stepper.scheme,
            stepper.groups,
            stepper.times,
            stepper.boundary,
            stepper.solvers,
        )
        assert self.linear is not None
        self.kinetics: KineticsAt = self.groups[1].others[0]  # type: ignore[assignment]
        count = self.kinetics.count
        self.names: list[str | None] = [None] * count
        self.D = np.zeros(count)
        for operator in self.linear.operators:
            ((c, _, factor),) = operator.pattern
            self.names[c] = operator.terms[0].coefficients[0]
            self.D[c] = (
                factor
                * float(coefficients[operator.terms[0].coefficients[0]])
                / self.linear.part.equation.inertia
            )
        self.factor = 1 / self.linear.part.equation.inertia
        self.weights = np.array([1 / float(w[0]) ** 2 for w in self.grid.widths[::-1]])
        self.fields = tuple(np.ndim(p) > 0 for p in self.kinetics.parameters)
        self.parameters = [
            np.ascontiguousarray(np.transpose(p)) if field else float(p)
            for p, field in zip(self.kinetics.parameters, self.fields, strict=True)
        ]
        self.store = Store.of(self.grid)
        self._last: tuple[Callable[[], np.ndarray | None], float] = (lambda: None, 0.0)
        self._sums: list[np.ndarray] = []
        self._clear()

    def _clear(self) -> None:
        """dJ/dD, and dJ/dtheta of the scalars and of the fields, so far."""
        self._slopes, self._scalars = np.zeros(len(self.D)), np.zeros(len(self.fields))
        self._sums = [np.zeros(self.grid.local_shape[::-1]) for field in self.fields if field]

    def _columns(self, u: np.ndarray) -> bool:
        """Whether a state has an axis of samples (see columns.py)."""
        return u.ndim > self.grid.dim + 1

    def _kernels(self, u: np.ndarray) -> tuple[Callable[..., None], ...]:
        return kernels(self.kinetics.expressions, self.fields, self.grid.dim, self._columns(u))

    def step(self, n: int, u: np.ndarray) -> Stages:
        out, (step, _, _, _) = self.store.state(u), self._kernels(u)
        after = [o.T for o in out]
        sizes = self.dt(n), self.factor, self.D, self.weights
        squares = np.zeros(1)
        step(*self.store.around(u), *after, *self.parameters, *sizes, squares)
        self._last = weakref.ref(out), math.sqrt(squares[0])
        return [u, out]

    def norm(self, u: np.ndarray) -> float:
        """Known of the state that the last step led to."""
        state, size = self._last
        return size if state() is u else super().norm(u)

    def _directions(self, dk: Coefficients) -> tuple[list[Numbers], np.ndarray]:
        """Increments of the kinetics' parameters, and of the diffusivities by species."""
        cells, found = self.grid.local_shape[::-1], list[Numbers]()
        for name, field in zip(self.kinetics.names, self.fields, strict=True):
            change = dk.get(name, 0.0)
            if field:
                found.append(np.ascontiguousarray(np.broadcast_to(np.transpose(change), cells)))
            else:
                found.append(float(change))
        dD = [float(dk.get(name, 0.0)) if name is not None else 0.0 for name in self.names]
        return found, self.factor * np.array(dD)

    def tangent(
        self,
        n: int,
        stages: Stages,
        du: np.ndarray,
        dk: Coefficients,
        previous: np.ndarray | None = None,
    ) -> Stages:
        out, (_, push, _, _) = self.store.state(du), self._kernels(du)
        directions, dD = self._directions(dk)
        before = *self.store.around(stages[0]), *self.store.around(du)
        after = [o.T for o in out]
        sizes = dD, self.dt(n), self.factor, self.D, self.weights
        push(*before, *after, *self.parameters, *directions, *sizes)
        return [du, out]

    def adjoint(
        self,
        n: int,
        stages: Stages,
        adjoint: np.ndarray,
        out: Gradients | None,
        late: Sequence[Stages] = (),
    ) -> tuple[np.ndarray, Stages]:
        result, (_, _, back, _) = self.store.state(adjoint), self._kernels(adjoint)
        slopes, scalars, sums = self._slopes, self._scalars, self._sums
        if out is None:
            slopes, scalars = np.empty_like(slopes), np.empty_like(scalars)
            sums = [np.empty_like(s) for s in sums]
        before, after = [a.T for a in stages[0]], [r.T for r in result]
        given = *before, *self.store.around(adjoint), *after, *self.parameters
        back(*given, *sums, slopes, scalars, self.dt(n), self.factor, self.D, self.weights)
        return result, [np.empty(0), adjoint] if out is None else []

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
    ) -> tuple[np.ndarray, Stages]:
        result, (_, _, _, twice) = self.store.state(dadjoint), self._kernels(dadjoint)
        directions, dD = self._directions(dk)
        adjoint = multipliers[1]
        before = [a.T for a in (*stages[0], *changes[0])]
        ghosted = *self.store.around(adjoint), *self.store.around(dadjoint)
        given = *before, *ghosted, *(r.T for r in result), *self.parameters, *directions
        sizes = dD, self.dt(n), self.factor, self.D, self.weights
        twice(*given, *self._sums, self._slopes, self._scalars, *sizes)
        return result, []

    def discard(self) -> None:
        super().discard()
        self._clear()

    def flush(self, out: Gradients) -> None:
        super().flush(out)
        sums = iter(self._sums)
        for i, (name, field) in enumerate(zip(self.kinetics.names, self.fields, strict=True)):
            out.add(name, next(sums).T if field else float(self._scalars[i]))
        for diffusivity, slope in zip(self.names, self._slopes, strict=True):
            if diffusivity is not None:
                out.add(diffusivity, float(slope))
        self._clear()


@functools.lru_cache(maxsize=64)
def kernels(
    expressions: Expressions, fields: tuple[bool, ...], dim: int, columns: bool
) -> tuple[Callable[..., None], ...]:
    """The loops of

        a step             (padded..., out..., parameters..., dt, s, D, w, sum of squares)
        its tangent        (padded..., padded increment..., out..., parameters..., their
                           increments..., dD, dt, s, D, w)
        its adjoint        (u..., padded adjoint..., out..., parameters..., field sums..., slopes,
                           scalar sums, dt, s, D, w)
        its derivative     (u..., du..., padded adjoint..., padded dadjoint..., out...,
                           parameters..., their increments..., sums as before, dD, dt, s, D, w);

    all arrays with the slowest axis first. States of `columns` have the samples as their last
    axis, z."""
    count = len(expressions.outputs)
    species, own = range(count), [i for i, field in enumerate(fields) if field]
    axes = [f"i{d}" for d in range(dim)]
    cell, sample = ", ".join(axes), ["z"] if columns else []
    loops, inner = [*axes, *sample], [*(f"{i} + 1" for i in axes), *sample]
    here = ", ".join(loops)
    given = [f"k{i}[{cell}]" if field else f"k{i}" for i, field in enumerate(fields)]
    parameters = [f"k{i}" for i in range(len(fields))]

    def laplacian(field: str) -> str:
        parts = []
        for d, i in enumerate(axes):
            low, high = [*inner], [*inner]
            low[d], high[d] = i, f"{i} + 2"
            parts.append(
                f"w[{d}] * ({field}[{', '.join(low)}] + {field}[{', '.join(high)}] - 2 * "
                f"{field}[{', '.join(inner)}])"
            )
        return " + ".join(parts)

    def function(
        name: str, arguments: list[str], before: list[str], body: list[str], after: list[str]
    ) -> str:
        lines = [f"def {name}({', '.join(arguments)}):"]
        for d, i in enumerate(loops):
            if i == loops[-1]:
                lines += ["    " * (d + 1) + line for line in before]
            lines.append("    " * (d + 1) + f"for {i} in range(o0.shape[{d}]):")
        lines += ["    " * (len(loops) + 1) + line for line in body]
        lines += ["    " * len(loops) + line for line in after]
        return "\n".join(lines)

    last = ["dt", "s", "D", "w"]
    centre = ", ".join(inner)
    arguments = [*(f"v{c}" for c in species), *(f"q{i}" for i in range(len(fields)))]
    code, rates = expressions.code("value", arguments)
    load = [f"q{i} = {text}" for i, text in enumerate(given)]
    step = function(
        "step",
        [
            *(f"p{c}" for c in species),
            *(f"o{c}" for c in species),
            *parameters,
            *last,
            "squares",
        ],
        ["a = 0.0"],
        [
            *(f"v{c} = p{c}[{centre}]" for c in species),
            *load,
            *code,
            *(
                f"x{c} = v{c} + dt * (D[{c}] * ({laplacian(f'p{c}')}) + s * ({rates[c]}))"
                for c in species
            ),
            *(f"o{c}[{here}] = x{c}" for c in species),
            *(f"a += x{c} * x{c}" for c in species),
        ],
        ["squares[0] += a"],
    )
    code, rates = expressions.code(
        "push", [*arguments, *(f"m{c}" for c in species), *(f"r{i}" for i in range(len(fields)))]
    )
    push = function(
        "push",
        [
            *(f"p{c}" for c in species),
            *(f"t{c}" for c in species),
            *(f"o{c}" for c in species),
            *parameters,
            *(f"d{i}" for i in range(len(fields))),
            "dD",
            *last,
        ],
        [],
        [
            *(f"v{c} = p{c}[{centre}]" for c in species),
            *(f"m{c} = t{c}[{centre}]" for c in species),
            *load,
            *(f"r{i} = d{i}" + f"[{cell}]" * field for i, field in enumerate(fields)),
            *code,
            *(
                f"o{c}[{here}] = m{c} + dt * (D[{c}] * ({laplacian(f't{c}')}) + dD[{c}] * "
                f"({laplacian(f'p{c}')})"
                f" + s * ({rates[c]}))"
                for c in species
            ),
        ],
        [],
    )
    code, parts = expressions.code("pull", [*arguments, *(f"m{c}" for c in species)])
    scalars, over = [i for i, field in enumerate(fields) if not field], own if columns else []
    back = function(
        "back",
        [
            *(f"u{c}" for c in species),
            *(f"p{c}" for c in species),
            *(f"o{c}" for c in species),
            *parameters,
            *(f"g{i}" for i in own),
            "slopes",
            "sums",
            *last,
        ],
        [*(f"a{c} = 0.0" for c in species), *(f"b{i} = 0.0" for i in (*scalars, *over))],
        [
            *(f"v{c} = u{c}[{here}]" for c in species),
            *(f"m{c} = p{c}[{centre}]" for c in species),
            *load,
            *code,
            *(f"l{c} = {laplacian(f'p{c}')}" for c in species),
            *(f"o{c}[{here}] = m{c} + dt * (D[{c}] * l{c} + s * ({parts[c]}))" for c in species),
            *(f"a{c} += v{c} * l{c}" for c in species),
            *(f"g{i}[{here}] += dt * s * ({parts[count + i]})" for i in own if not columns),
            *(f"b{i} += {parts[count + i]}" for i in (*scalars, *over)),
        ],
        [
            *(f"g{i}[{cell}] += dt * s * b{i}" for i in over),
            *(f"slopes[{c}] += dt * s * a{c}" for c in species),
            *(f"sums[{i}] += dt * s * b{i}" for i in scalars),
        ],
    )
    pulled, first = expressions.code("pull", [*arguments, *(f"x{c}" for c in species)])
    multiplied = [
        *(f"m{c}" for c in species),
        *(f"n{c}" for c in species),
        *(f"r{i}" for i in range(len(fields))),
    ]
    code, parts = expressions.code("second", [*arguments, *multiplied])
    twice = function(
        "twice",
        [
            *(f"u{c}" for c in species),
            *(f"e{c}" for c in species),
            *(f"p{c}" for c in species),
            *(f"t{c}" for c in species),
            *(f"o{c}" for c in species),
            *parameters,
            *(f"d{i}" for i in range(len(fields))),
            *(f"g{i}" for i in own),
            "slopes",
            "sums",
            "dD",
            *last,
        ],
        [*(f"a{c} = 0.0" for c in species), *(f"b{i} = 0.0" for i in (*scalars, *over))],
        [
            *(f"v{c} = u{c}[{here}]" for c in species),
            *(f"n{c} = e{c}[{here}]" for c in species),
            *(f"m{c} = p{c}[{centre}]" for c in species),
            *(f"x{c} = t{c}[{centre}]" for c in species),
            *load,
            *(f"r{i} = d{i}" + f"[{cell}]" * field for i, field in enumerate(fields)),
            *pulled,
            *(
                f"y{i} = {text}" for i, text in enumerate(first)
            ),  # the names of `pulled` are used again
            *code,
            *(f"y{i} += {text}" for i, text in enumerate(parts)),
            *(f"l{c} = {laplacian(f'p{c}')}" for c in species),
            *(f"h{c} = {laplacian(f't{c}')}" for c in species),
            *(
                f"o{c}[{here}] = x{c} + dt * (D[{c}] * h{c} + dD[{c}] * l{c} + s * y{c})"
                for c in species
            ),
            *(f"a{c} += v{c} * h{c} + n{c} * l{c}" for c in species),
            *(f"g{i}[{here}] += dt * s * y{count + i}" for i in own if not columns),
            *(f"b{i} += y{count + i}" for i in (*scalars, *over)),
        ],
        [
            *(f"g{i}[{cell}] += dt * s * b{i}" for i in over),
            *(f"slopes[{c}] += dt * s * a{c}" for c in species),
            *(f"sums[{i}] += dt * s * b{i}" for i in scalars),
        ],
    )
    texts = {"step": step, "push": push, "back": back, "twice": twice}
    return tuple(compiled_source(text, name) for name, text in texts.items())
