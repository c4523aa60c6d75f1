"""Adjoint sensitivities beside central differences for every term, kind of boundary value,
scheme, storage, misfit and regularizer, as a Markdown table.

python benchmarks/derivatives.py > docs/derivatives.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

if __name__ == "__main__":
    import petsc4py

    petsc4py.init([sys.argv[0]])

import numpy as np
from petsc4py import PETSc

from npde_opt.forward import Equation, Evolution, Experiment, Steady
from npde_opt.forward.schemes import SCHEMES
from npde_opt.grids import Grid
from npde_opt.misfits import MISFITS, CorrelatedErrors, LeastSquares, ProportionalErrors
from npde_opt.objective import Objective
from npde_opt.observations import at_points, voxels
from npde_opt.parameters import Field, ParameterSpace, Shared, Unknown
from npde_opt.regularizers import REGULARIZERS
from npde_opt.regularizers.small import SmallPrior
from npde_opt.runs.verification import direction
from npde_opt.terms import (
    Absorbing,
    Advection,
    Convolution,
    Diffusion,
    GradientDiffusion,
    Kinetics,
    NonlinearDiffusion,
    Reaction,
    Source,
    TensorDiffusion,
)
from npde_opt.terms.absorbing import absorbing_rate
from npde_opt.verify import taylor_test

SHAPE = (8, 7)
POINTS = [[0.2, 0.3], [0.7, 0.4], [0.5, 0.8], [0.9, 0.9], [0.3, 0.6]]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    part: str
    name: str
    unknown: str
    gradient: float
    hessian: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        verdict = ", ".join(self.problems) or "right"
        gradient, hessian = bounded(self.gradient), bounded(self.hessian)
        cells = (self.part, self.name, self.unknown, gradient, hessian, verdict)
        return f"| {' | '.join(cells)} |"


def bounded(value: float) -> str:
    """The power of ten above a difference: the same on any machine."""
    if not np.isfinite(value):
        return str(value)
    return f"< 1e{int(np.ceil(np.log10(max(value, 1.1e-9))))}"


def space_of(
    grid: Grid, names: Sequence[str], transform: str = "log"
) -> ParameterSpace:
    return ParameterSpace(grid, [Unknown(n, transform) for n in names])


def steady(
    names: Sequence[str] = ("D",),
    terms: Callable[[Grid], list[Any]] = lambda g: [Diffusion(g)],
    misfit: Callable[..., Any] = LeastSquares,
    regularizer: Callable[[Grid], Any] | None = None,
    boundary: Mapping[str, Any] | None = None,
    outer: str = "dirichlet",
    **known: float,
) -> tuple[Objective, PETSc.Vec]:
    grid = Grid(SHAPE, boundaries={"x-": outer, "y+": "dirichlet"})
    space, (x, y) = space_of(grid, names), grid.coordinates()
    seen = at_points(grid, (), np.array(POINTS))
    load = (1 + np.sin(3 * x) * np.cos(2 * y)) * grid.volume
    source = Experiment(load=load, boundary=boundary or {"x-": 1.0})
    forward = Steady(space, Equation(grid, terms(grid)), known, [source], [seen])
    (layout,) = forward.layouts
    y_ = 1 + 0.3 * np.random.default_rng(0).standard_normal(layout.size)
    regularizers = {names[0]: regularizer(grid)} if regularizer else {}
    return Objective(forward, [misfit(y_, 0.2, layout)], regularizers), rough(
        space, 1.0
    )


def evolution(
    names: Sequence[str],
    terms: Callable[[Grid], list[Any]],
    method: str = "ars222",
    species: Sequence[str] = ("u",),
    gamma: complex = 1.0,
    scalar: Sequence[str] = (),
    prior: bool = False,
    misfit: Callable[..., Any] = LeastSquares,
    boundary: Mapping[str, Any] | None = None,
    storage: str | None = None,
    **known: Any,
) -> tuple[Objective, PETSc.Vec]:
    sides = dict.fromkeys(boundary or (), "dirichlet")
    grid = Grid(SHAPE, boundaries=sides)
    x, y = grid.coordinates()
    start = 0.6 + 0.3 * np.sin(3 * x) * np.cos(2 * y)
    transform = "identity" if complex(gamma).imag else "log"
    space = ParameterSpace(
        grid,
        [
            Unknown(n, transform, block=Shared() if n in scalar else Field())
            for n in names
        ],
    )
    times = np.linspace(0, 0.008, 5)
    equation = Equation(grid, terms(grid), species, gamma, storage=storage)
    sampling = voxels(grid, times[[2, 4]].tolist(), list(grid.edges), species[0])
    known = {k: v(grid) if callable(v) else v for k, v in known.items()}
    experiment = Experiment(dict.fromkeys(species[:2], start), boundary=boundary or {})
    forward = Evolution(
        space, equation, known, [experiment], [sampling], SCHEMES[method], times
    )
    (layout,) = forward.layouts
    y_ = 0.5 + 0.2 * np.random.default_rng(1).standard_normal(layout.size)
    regularizers = {names[0]: SmallPrior(grid.comm, 1, deviation=2.0)} if prior else {}
    return Objective(forward, [misfit(y_, 0.1, layout)], regularizers), rough(
        space, 1.0
    )


def rough(space: ParameterSpace, mean: float) -> PETSc.Vec:
    """Values around `mean`."""
    rng = np.random.default_rng(2)
    values = {}
    for u in space.unknowns:
        field = mean + 0.2 * rng.random(space.grid.shape)
        values[u.name] = field[space.grid.local_slice] if not u.block.listed else mean
    return space.from_values(values)


def diffusing(*others: Callable[[Grid], Any]) -> Callable[[Grid], list[Any]]:
    return lambda grid: [Diffusion(grid, "D", "u"), *(other(grid) for other in others)]


CORRELATION = np.array([[1.0, 0.5], [0.5, 1.0]])
"""Of the two times of an evolution."""

TERMS: dict[str, Callable[[], tuple[Objective, PETSc.Vec]]] = {
    "diffusion": lambda: steady(),
    "diffusion, one D an axis": lambda: steady(
        ("Dx", "Dy"), lambda g: [Diffusion(g, ["Dx", "Dy"])]
    ),
    "reaction": lambda: steady(
        ("c",), lambda g: [Diffusion(g), Reaction(g, "c")], D=1.0
    ),
    "advection": lambda: steady(
        ("D",), lambda g: [Diffusion(g), Advection(g, (2.0, -1.0))]
    ),
    "advection, div(v u)": lambda: steady(
        ("v", "w"),
        lambda g: [
            Diffusion(g),
            Advection(g, ("v*(1 + y)", "w - 1.5*v"), "central", conservative=True),
        ],
        D=1.0,
    ),
    "diffusion-tensor": lambda: steady(
        ("a", "b"), lambda g: [TensorDiffusion(g, (("a", "b/3"), ("b/3", "a + b")))]
    ),
    "nonlinear-diffusion": lambda: evolution(
        ("D",),
        lambda g: [NonlinearDiffusion(g, ("u",), "u", "D*u**2")],
        "crank-nicolson",
    ),
    "gradient-diffusion": lambda: steady(
        ("D",), lambda g: [GradientDiffusion(g, ("u",), "u", "D*(1 + q)")]
    ),
    "convolution": lambda: steady(
        ("w",),
        lambda g: [
            Diffusion(g),
            Convolution(g, {(0, 0): 2.0, (2, 0): "w", (-1, 1): "w"}),
        ],
        D=1.0,
    ),
    "kinetics": lambda: evolution(
        ("r", "D"),
        diffusing(lambda g: Kinetics(g, ("u",), "fisher-kpp")),
        scalar=("r",),
        K=2.0,
    ),
    "source": lambda: evolution(
        ("q",), diffusing(lambda g: Source(g, ("u",), "u", "q*x")), scalar=("q",), D=1.0
    ),
    "absorbing": lambda: evolution(
        ("V",),
        lambda g: [Diffusion(g, "one"), Reaction(g, "V"), Absorbing(g, "rate")],
        "crank-nicolson",
        ("re", "im"),
        1j,
        one=1.0,
        rate=lambda g: absorbing_rate(g, {"x-": 0.3}, 1.0, 2.0),
    ),
}

DRIVEN: dict[str, Callable[[], tuple[Objective, PETSc.Vec]]] = {
    "prescribed": lambda: steady(("g", "D"), boundary={"x-": "g*(1 + y)"}),
    "flux": lambda: steady(
        ("g",), boundary={"x-": "g*(1 + y)"}, outer="neumann", D=1.0
    ),
    "prescribed in time": lambda: evolution(
        ("g", "D"), diffusing(), scalar=("g",), boundary={"x-": "g*(1 + y + 90*t)"}
    ),
}
"""Boundary values."""
STORED: dict[str, Callable[[], tuple[Objective, PETSc.Vec]]] = {
    name: partial(evolution, ("S", "D"), diffusing(), name, storage="S")
    for name in ("crank-nicolson", "ars222", "heun")
}
"""S du/dt of unknown S, by scheme."""

KINDS: dict[str, type] = {
    "least-squares": LeastSquares,
    **MISFITS,
    "proportional": ProportionalErrors,
    "correlated": CorrelatedErrors,
}
EXTRA: dict[str, dict[str, Any]] = {
    "proportional": {"power": 1.0, "floor": 0.1},
    "correlated": {"correlation": CORRELATION},
}
PRIORS: dict[str, dict[str, Any]] = {
    "gradient": {},
    "total-variation": {"epsilon": 0.5},
    "bilaplacian": {"correlation_length": 0.3, "variance": 0.5},
}


def misfit(name: str) -> Callable[..., Any]:
    return lambda y, sigma, layout: KINDS[name](
        y, sigma, layout, *EXTRA.get(name, {}).values()
    )


def problems() -> Iterator[tuple[str, str, Callable[[], tuple[Objective, PETSc.Vec]]]]:
    for name, make in TERMS.items():
        yield "term", name, make
    for name, make in DRIVEN.items():
        yield "boundary", name, make
    for name, make in STORED.items():
        yield "storage", name, make
    for name in SCHEMES:
        terms = diffusing(lambda g: Kinetics(g, ("u",), "fisher-kpp"))
        yield (
            "scheme",
            name,
            partial(evolution, ("D", "r"), terms, name, scalar=("r",), K=2.0),
        )
    for name in KINDS:
        if name == "correlated":  # in time
            yield (
                "misfit",
                name,
                partial(evolution, ("D",), diffusing(), misfit=misfit(name)),
            )
        else:
            yield "misfit", name, partial(steady, misfit=misfit(name))
    for name in REGULARIZERS:
        yield (
            "regularizer",
            name,
            partial(
                steady,
                regularizer=partial(REGULARIZERS[name], alpha=1.0, **PRIORS[name]),
            ),
        )
    yield (
        "regularizer",
        "normal prior of a scalar",
        lambda: evolution(
            ("r",),
            diffusing(lambda g: Kinetics(g, ("u",), "fisher-kpp")),
            scalar=("r",),
            prior=True,
            K=2.0,
            D=1.0,
        ),
    )


def rows(wanted: Callable[[str, str], bool] = lambda part, name: True) -> Iterator[Row]:
    """One an unknown of each problem. Collective."""
    for part, name, make in problems():
        if not wanted(part, name):
            continue
        objective, m = make()
        for u in objective.space.unknowns:
            dm = direction(objective, m, u, 3)
            orders = taylor_test(objective, m, dm)
            worst = max(row.relative for row in orders.rows.values())
            yield Row(
                part,
                name,
                u.name,
                orders.slope.relative,
                worst,
                tuple(orders.problems()),
            )
            dm.destroy()
        m.destroy()
        objective.destroy()


def table() -> str:
    lines = [
        "# Derivatives beside central differences",
        "",
        "Relative difference between the adjoint gradient along a random direction, the Hessian's "
        "product with it, and central",
        "differences with Richardson's extrapolation, for every term, kind of boundary "
        "value, storage by scheme, scheme, misfit and regularizer",
        "(`benchmarks/derivatives.py`, which wrote this page; a test runs it). Right means that "
        "orders of Taylor remainders and",
        "differences agree; see [how-it-works.md](how-it-works.md).",
        "",
        "| part | name | unknown | gradient | Hessian | verdict |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(str(row) for row in rows())]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
