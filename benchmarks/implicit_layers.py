"""What implicit layers cost and buy where far cells matter: fields are filled in from 4 % of their
cells by networks of residual layers, whose steps are implicit diffusion or stencils of 3 x 3 cells.

    scripts/npde-env python benchmarks/implicit_layers.py [--cells 32] [--samples 48]

A row is a network: its weights, the error on other fields in units of their deviation, and the
processor time of a gradient of all samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from common import comm, parser, report

from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.networks import (
    Diffusing,
    Mixing,
    Network,
    Part,
    Place,
    Stencil,
    Step,
    Tanh,
    Weight,
)
from npde_opt.networks.template import Template
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings, minimize
from npde_opt.training.given import Given

SEEN, LENGTH, CHANNELS = 0.04, 6.0, 4
Row = dict[str, Any]


def samples(cells: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(inputs [s, 2, 1, j, i], fields [s, j, i]): values where they are seen, and where that is."""
    rng = np.random.default_rng(seed)
    x = np.fft.fftfreq(cells, 1 / cells)
    filtered = np.exp(-((LENGTH / cells * np.pi) ** 2) * (x[:, None] ** 2 + x**2))
    noise = np.fft.fft2(rng.standard_normal((count, cells, cells)))
    fields = np.fft.ifft2(noise * filtered).real
    fields /= fields.std()
    seen = rng.uniform(size=fields.shape) < SEEN
    inputs = np.stack([seen * fields, seen], axis=1).astype(float)
    return inputs[:, :, None], fields


def ends(grid: Grid) -> tuple[Step, Step]:
    """From the two channels of samples to those of states, and to the field."""
    first, last = (
        Mixing(Place.on(grid, 2), CHANNELS),
        Mixing(Place.on(grid, CHANNELS), 1),
    )
    bias = Weight("b", (CHANNELS,))
    return (
        Step(first.source, Part.of(first, "first"), bias=bias),
        Step(last.source, Part.of(last, "last"), bias=Weight("c", (1,))),
    )


def implicit(grid: Grid, count: int) -> list[Template]:
    """Products within cells, and diffusion over some to all of the grid."""
    W, found = Mixing(Place.on(grid, CHANNELS), CHANNELS), list[Template]()
    for n in range(count):
        bias = Weight("a", (CHANNELS,), n)
        D = Weight("D", (CHANNELS,), n, start=20.0, transform="log")
        found.append(Step(W.source, Part.of(W, "W", n), Tanh(), bias, residual=True))
        found.append(Diffusing(grid, CHANNELS, D))
    return found


def explicit(grid: Grid, count: int) -> list[Template]:
    W = Stencil(Place.on(grid, CHANNELS), CHANNELS, mode="replicate")
    return [
        Step(
            W.source,
            Part.of(W, "W", n),
            Tanh(),
            Weight("a", (CHANNELS,), n),
            residual=True,
            dt=0.5,
        )
        for n in range(count)
    ]


def trained(
    name: str,
    grid: Grid,
    layers: Sequence[Template],
    data: Sequence[np.ndarray],
    iterations: int,
) -> Row:
    inputs, fields, others, wanted = data
    first, last = ends(grid)
    network = Network(grid, [first, *layers, last])
    forward = network.over(Given(inputs))
    misfit = LeastSquares(_columns(fields), 1.0, forward.layouts[0])
    J = Objective(forward, [misfit], {})
    m0 = J.space.from_values(network.initial(0))
    found = minimize(
        J, m0, Settings("lbfgs", max_iterations=iterations, gradient_rtol=1e-6)
    )
    begun = time.process_time()
    at = J.linearize(found.m)
    at.gradient()
    seconds = time.process_time() - begun
    outputs = network.over(Given(others), J.space).linearize(found.m).data[0].values
    error = float(np.sqrt(np.mean((outputs - _columns(wanted)) ** 2)))
    network.destroy()
    return {
        "network": name,
        "weights": network.size,
        "error": error,
        "training error": float(np.sqrt(2 * at.value / fields.size)),
        "gradient s": seconds,
    }


def _columns(fields: np.ndarray) -> np.ndarray:
    return fields.reshape(len(fields), -1).T


def main() -> None:
    arguments = parser("implicit_layers", __doc__ or "")
    arguments.add_argument("--cells", type=int, default=32)
    arguments.add_argument("--samples", type=int, default=48)
    arguments.add_argument("--iterations", type=int, default=150)
    given = arguments.parse_args()
    grid = Grid((given.cells,) * 2, extent=(float(given.cells),) * 2, comm=comm)
    data = [
        *samples(given.cells, given.samples, 0),
        *samples(given.cells, given.samples, 1),
    ]
    kinds: dict[str, tuple[Callable[[Grid, int], list[Template]], int]] = {
        "3 implicit layers": (implicit, 3),
        "3 layers of 3 x 3": (explicit, 3),
        "12 layers of 3 x 3": (explicit, 12),
    }
    rows = [
        trained(name, grid, build(grid, count), data, given.iterations)
        for name, (build, count) in kinds.items()
    ]
    report("implicit_layers", rows, given.out)


if __name__ == "__main__":
    main()
