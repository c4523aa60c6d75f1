"""Systems that multigrid with plain levels loses: what `solve_cost.py --hard` solves.

Each is diffusion in unit cells, or in cells of given widths, with D by axis, u = 0 on all sides or
on none, and a decay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from npde_opt.grids import Grid
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.terms import Diffusion

CONTRAST = 1e6
GROWTH = 1.4
"""Of cells in padding, from one to the next."""

Fields = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Hard:
    """D by axis [i, j, k] on a box of cells.

    Attributes:
        edges: by axis; of unit cells where there are none.
        held: whether u = 0 on all sides; else nothing flows through them.
        decay: times u, beside the diffusion.
    """

    D: Fields
    edges: tuple[np.ndarray, ...] | None = None
    held: bool = True
    decay: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.D[0].shape

    def system(self, comm: MPI.Intracomm) -> tuple[Grid, StencilMatrix]:
        """Collective."""
        dim = len(self.shape)
        sides = [a + s for a in "xyz"[:dim] for s in "-+"]
        walls = dict.fromkeys(sides, "dirichlet") if self.held else {}
        unit = tuple(np.arange(n + 1.0) for n in self.shape)
        grid = Grid(self.shape, edges=self.edges or unit, boundaries=walls, comm=comm)
        matrix = StencilMatrix(grid)
        self.fill(matrix)
        return grid, matrix

    def fill(self, matrix: StencilMatrix) -> None:
        """Values, once more."""
        grid, names = matrix.grid, ("Dx", "Dy", "Dz")[: len(self.shape)]
        own = [np.asfortranarray(D[grid.local_slice]) for D in self.D]
        planes = matrix.zeroed()
        Diffusion(grid, names).at(dict(zip(names, own, strict=True))).add_planes(planes)
        planes[matrix.offsets[0]] += self.decay * grid.volume
        matrix.refresh()


def _noise(shape: tuple[int, ...], spread: float = 1.0) -> np.ndarray:
    return np.exp(spread * np.random.default_rng(0).standard_normal(shape))


def _centres(n: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the cells of a unit square."""
    along = (np.arange(n) + 0.5) / n
    return along[:, None], along[None, :]


def channels(n: int) -> Hard:
    """Straight ones of one and two cells, a bent one of one cell, in rough cells."""
    D = _noise((n, n))
    D[n // 5], D[:, n // 3] = CONTRAST * D[n // 5], CONTRAST * D[:, n // 3]
    D[n // 2 : n // 2 + 2, n // 6 : -n // 6] = CONTRAST
    x = np.arange(n)
    y = (n * (0.7 + 0.2 * np.sin(2 * np.pi * x / n))).astype(int)
    D[x, y] = D[x, np.minimum(y + 1, n - 1)] = CONTRAST
    return Hard((D, D))


def rim(n: int) -> Hard:
    """A conducting ring, one and a half cells thick."""
    x, y = _centres(n)
    ring = abs(np.hypot(x - 0.5, y - 0.5) - 0.35) < 0.75 / n
    D = np.where(ring, CONTRAST, 1.0)
    return Hard((D, D))


def insulating_rim(n: int) -> Hard:
    """A ring that insulates, one and a half cells thick."""
    x, y = _centres(n)
    ring = abs(np.hypot(x - 0.5, y - 0.5) - 0.35) < 0.75 / n
    D = np.where(ring, 1 / CONTRAST, 1.0)
    return Hard((D, D))


def box_rim(n: int) -> Hard:
    """Conducting cells along all sides, through which nothing flows."""
    D = np.full((n, n), CONTRAST)
    D[1:-1, 1:-1] = 1.0
    return Hard((D, D), held=False, decay=1e-3)


def white(shape: tuple[int, ...]) -> Hard:
    """Every cell by itself, log D uniform."""
    D = CONTRAST ** np.random.default_rng(1).random(shape)
    return Hard((D,) * len(shape))


def inclusions(n: int) -> Hard:
    """Rectangles that conduct 1e8 times as well."""
    D, draws = np.ones((n, n)), np.random.default_rng(3)
    for _ in range(20):
        i, j = draws.integers(0, n - 10, 2)
        a, b = draws.integers(3, max(n // 6, 4), 2)
        D[i : i + a, j : j + b] = 1e8
    return Hard((D, D))


def padded(dim: int, core: int, pad: int) -> Hard:
    """Rough cells, of which `pad` at every side grow."""
    widths = GROWTH ** np.arange(1, pad + 1)
    edges = np.r_[0, np.cumsum(np.r_[widths[::-1], np.ones(core), widths])]
    D = _noise((edges.size - 1,) * dim)
    return Hard((D,) * dim, edges=(edges,) * dim)


def along_axis(n: int) -> Hard:
    """100 times as much along y as along x, in rough cells."""
    D = _noise((n, n), 0.5)
    return Hard((D, 100 * D))


def swapped(n: int) -> Hard:
    """As before in a chessboard of 4 x 4 regions, along x in every other one."""
    x, y = _centres(n)
    which = ((4 * x).astype(int) + (4 * y).astype(int)) % 2 == 0
    D = _noise((n, n), 0.5)
    return Hard((np.where(which, 100, 1) * D, np.where(which, 1, 100) * D))


PROBLEMS: dict[str, Callable[[], Hard]] = {
    "channels 1e6": lambda: channels(128),
    "rim 56^2": lambda: rim(56),
    "rim 112^2": lambda: rim(112),
    "rim 224^2": lambda: rim(224),
    "insulating rim 112^2": lambda: insulating_rim(112),
    "rim along the box": lambda: box_rim(112),
    "white noise 1e6": lambda: white((128, 128)),
    "white noise 1e6, 3-D": lambda: white((24, 24, 24)),
    "inclusions 1e8": lambda: inclusions(128),
    "padding by 1.4": lambda: padded(2, 96, 12),
    "padding by 1.4, 3-D": lambda: padded(3, 24, 6),
    "anisotropy 100": lambda: along_axis(128),
    "anisotropy 100 by regions": lambda: swapped(128),
}
