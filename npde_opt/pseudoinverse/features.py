"""Features of pictures that nobody trains: rows of H for batches of pictures u [sample, y, x].

Deskewing moves the strokes' mean to the middle and shears away their slant. Oriented features are
steps of a reaction-diffusion chain,

    v_k = max(n_k . grad u, 0),  n_k = (cos, sin)(2 pi k / K)        oriented derivatives, rectified
    v_k := exp(t lap) v_k                                            the heat equation, no flux out
    v_k := means over samples x samples blocks of cells              coarsening
    sqrt(v_k / |v|)                                                  of all v together

of which diffusion and coarsening are one small matrix along each axis. They are layers of a network
whose weights are fixed, and any other network makes features, too. A random layer is tanh(x A + b).
Everything is done a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from scipy.linalg import expm

from npde_opt.aliases import Numbers
from npde_opt.errors import InputError
from npde_opt.grids import Grid
from npde_opt.networks import (
    Applied,
    Mixing,
    Network,
    Part,
    Place,
    ReLU,
    Separable,
    Stencil,
    Step,
)
from npde_opt.networks.interface import Values
from npde_opt.networks.template import Template

Feature = Callable[[np.ndarray], np.ndarray]
"""A map of batches: x [sample, ...] to y [sample, ...], in single precision."""


@dataclass(frozen=True)
class Features:
    """One map after the other, and what comes out as rows."""

    maps: Sequence[Feature]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for map_ in self.maps:
            x = map_(x)
        return x.reshape(len(x), -1)


def receptive(
    shape: tuple[int, int], outputs: int, least: int, seed: int
) -> np.ndarray:
    """Masks (cells, outputs): each output sees one rectangle of random place and size, at least
    `least` cells along each axis (McDonnell et al. 2015)."""
    rng = np.random.default_rng(seed)
    inside = []
    for n in shape:
        sizes = rng.integers(min(least, n), n + 1, outputs)
        starts = rng.integers(0, n - sizes + 1)
        cells = np.arange(n)[:, None]
        inside.append((cells >= starts) & (cells < starts + sizes))
    both: np.ndarray = inside[0][:, None] & inside[1][None, :]
    return both.reshape(-1, outputs)


def flat(u: np.ndarray) -> np.ndarray:
    """Values of the cells as they are."""
    return u.reshape(len(u), -1)


def deskewed(u: np.ndarray) -> np.ndarray:
    """Pictures whose mass has its mean in the middle, and x and y of it no correlation.

    Along each line the values between cells are linear; where there is no mass nothing moves.
    """
    u = np.asarray(u, np.float32)
    count, rows, columns = u.shape
    y, x = (np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in (rows, columns))
    mass = np.maximum(u.sum(axis=(1, 2)), 1e-12)
    by_row, by_column = u.sum(axis=2), u.sum(axis=1)
    y0, x0 = by_row @ y / mass, by_column @ x / mass
    spread = by_row @ y**2 / mass - y0**2
    both = ((u @ x) @ y) / mass - x0 * y0
    slant = both / np.maximum(spread, 1e-6)
    # First along y by whole pictures, then along x by lines.
    moved = _shifted(u.transpose(0, 2, 1), np.repeat(y0[:, None], columns, axis=1))
    return _shifted(moved.transpose(0, 2, 1), x0[:, None] + slant[:, None] * y)


def _shifted(u: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Lines u(x + by), 0 outside. u: [sample, line, x]. by: [sample, line]."""
    count, lines, n = u.shape
    pad = n
    padded = np.zeros((count, lines, 3 * n + 1), np.float32)
    padded[:, :, pad : pad + n] = u
    by = np.clip(by, -n, n).astype(np.float32)
    whole = np.floor(by).astype(np.int64)
    part = (by - whole)[:, :, None]
    # One index a line into the flat array: the cells of a line are beside each other.
    starts = (
        np.arange(count * lines).reshape(count, lines) * padded.shape[2] + pad + whole
    )
    at = starts[:, :, None] + np.arange(n)
    flat_values = padded.reshape(-1)
    left = flat_values[at]
    at += 1
    found: np.ndarray = left + part * (flat_values[at] - left)
    return found


class Chained:
    """Rows of what layers with fixed weights make of batches of pictures: of a network that was
    trained, or that nobody trains.

    Args:
        network: on one rank's grid, in single precision or double.
        weights: by name.

    Raises:
        InputError: for a network on several ranks, and other weights.
    """

    def __init__(self, network: Network, weights: Values):
        shapes = {name: np.shape(w) for name, w in weights.items()}
        if network.grid.comm.size > 1:
            raise InputError(
                "features: network", f"{network.grid.comm.size} ranks", "one"
            )
        if shapes != network.shapes:
            raise InputError("features: weights", shapes, str(network.shapes))
        self.source, self.dtype, self.size = (
            network.source,
            network.dtype,
            network.target.size,
        )
        self.layers = [step.at(weights, None) for step in network.steps]

    def states(self, u: np.ndarray) -> np.ndarray:
        """Behind the last layer [channel, sample, y, x].

        Args:
            u: [sample, y, x], or [sample, channel, y, x].
        """
        channels = self.source.channels
        rows = u.reshape(len(u), channels, *u.shape[-len(self.source.cells) :])
        found = np.ascontiguousarray(np.moveaxis(rows, 1, 0), self.dtype)
        for layer in self.layers:
            # No layer is asked for a derivative: what it keeps for one goes.
            found = layer.step(found)[-1]
        return found

    def __call__(self, u: np.ndarray) -> np.ndarray:
        return np.moveaxis(self.states(u), 0, -1).reshape(len(u), -1)


class Oriented:
    """Oriented derivatives, rectified, diffused and coarsened: [sample, y, x] to rows of
    K * samples^2 numbers.

    Args:
        orientations: K.
        time: t of the heat equation, cells^2.
        samples: cells along each axis in the end.
        shape: cells of a picture along y and x.

    Raises:
        InputError: for numbers that are not positive, and more samples than cells.
    """

    def __init__(
        self, shape: tuple[int, int], orientations: int, time: float, samples: int
    ):
        if min(orientations, samples) < 1 or samples > min(shape) or not time >= 0:
            told = f"{orientations} orientations, time {time}, {samples} samples"
            allowed = f"at least 1, 0 and 1; at most {min(shape)} samples"
            raise InputError("oriented features", told, allowed)
        grid = Grid(shape[::-1], comm=MPI.COMM_SELF)
        slopes = Stencil(Place.on(grid), 2)
        turned = Mixing(slopes.target, orientations)
        coarse = Grid((samples, samples), comm=MPI.COMM_SELF)
        heat = [_coarse_heat(n, time, samples) for n in grid.shape]
        steps: list[Template] = [
            Step(slopes.source, Part.of(slopes, "slopes")),
            Step(turned.source, Part.of(turned, "normals"), ReLU()),
            Applied(Separable(turned.target, heat, Place.on(coarse))),
        ]
        angles = 2 * np.pi * np.arange(orientations) / orientations
        # Central differences along x and along y.
        differences = np.zeros(slopes.shape)
        differences[0, 0, 1] = differences[1, 0, :, 1] = np.array([-0.5, 0.0, 0.5])
        normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        network = Network(grid, steps, dtype=np.float32)
        self.chain = Chained(network, {"slopes": differences, "normals": normals})
        self.size = self.chain.size

    def __call__(self, u: np.ndarray) -> np.ndarray:
        out = np.ascontiguousarray(self.chain(u))
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        # Diffusion keeps the sign but for rounding.
        np.maximum(out, 0, out=out)
        np.sqrt(out, out=out)
        return out


def _coarse_heat(n: int, time: float, samples: int) -> np.ndarray:
    """The heat equation on n cells until `time`, then means over blocks (samples, n)."""
    lap = np.diag(np.full(n - 1, 1.0), 1) + np.diag(np.full(n - 1, 1.0), -1)
    lap -= np.diag(lap.sum(axis=1))
    edges = np.linspace(0, n, samples + 1)
    cells = np.arange(n)
    overlap = np.minimum(cells + 1, edges[1:, None]) - np.maximum(
        cells, edges[:-1, None]
    )
    means = np.maximum(overlap, 0) * samples / n
    found: np.ndarray = means @ expm(time * lap)
    return found


class RandomLayer:
    """tanh(x A + b), A and b normal: rows (m, inputs) to (m, outputs).

    Args:
        A: (inputs, outputs). b: (outputs,).
    """

    def __init__(self, A: np.ndarray, b: np.ndarray):
        self.A, self.b = A.astype(np.float32), b.astype(np.float32)
        self.size = self.A.shape[1]

    @classmethod
    def of_rows(
        cls,
        x: np.ndarray,
        outputs: int,
        scale: float,
        seed: int,
        bias: float = 0.5,
        mask: np.ndarray | None = None,
    ) -> RandomLayer:
        """Normal weights for rows like x (some rows, inputs).

        Args:
            scale: standard deviation of (x - mean) A over rows, of each output.
            bias: standard deviation that b adds.
            mask: (inputs, outputs) of the weights that are not 0.
        """
        rng = np.random.default_rng(seed)
        mean = x.mean(axis=0)
        A = rng.standard_normal((x.shape[1], outputs))
        if mask is not None:
            A *= mask
        spread = np.sqrt((((x - mean) @ A) ** 2).mean(axis=0))
        return cls.scaled(A, mean, spread, scale, bias * rng.standard_normal(outputs))

    @classmethod
    def scaled(
        cls,
        A: np.ndarray,
        mean: np.ndarray,
        spread: np.ndarray,
        scale: float,
        b: Numbers = 0.0,
    ) -> RandomLayer:
        """tanh((x - mean) A S + b), S so that what stands before b has the deviation `scale`.

        Args:
            spread: deviation of (x - mean) A, of each output.
        """
        # An output that sees nothing that varies stays what it is.
        A = A * (scale / np.maximum(spread, 1e-3 * spread.max()))
        return cls(A, b - mean @ A)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = np.asarray(x, np.float32) @ self.A
        y += self.b
        np.tanh(y, out=y)
        return y
