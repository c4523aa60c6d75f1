"""Residual networks on noisy pictures, ours and the same in PyTorch; see networks.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.ensemble import Ensemble
from npde_opt.grids import Grid
from npde_opt.misfits import LeastSquares
from npde_opt.networks import (
    PATHS,
    Diffusion,
    Mixing,
    Network,
    Part,
    Place,
    Stencil,
    Step,
    Tanh,
    Transposed,
    Weight,
)
from npde_opt.objective import Objective

MODELS = ("rd", "parabolic")
PRECISIONS: dict[str, type[np.floating]] = {"single": np.float32, "double": np.float64}
DT = 0.1


class Counted(MPI.Intracomm):
    """Counts messages that are sent."""

    sent = 0

    def Isend(self, *given: Any, **named: Any) -> MPI.Request:
        Counted.sent += 1
        return super().Isend(*given, **named)


class Pictures:
    """Clean pictures of discs [s, k, j, i] and noisy ones, the same on all ranks."""

    def __init__(self, count: int, n: int):
        rng, centres = np.random.default_rng(0), (np.arange(n) + 0.5) / n
        x, y = np.meshgrid(centres, centres)
        self.clean = np.zeros((count, n, n))
        for picture in self.clean:
            for cx, cy, radius, height in rng.random((12, 4)):
                inside = (x - cx) ** 2 + (y - cy) ** 2 < (0.05 + 0.15 * radius) ** 2
                picture += height * inside
        np.clip(self.clean, 0, 1, out=self.clean)
        self.noisy = self.clean + 0.1 * rng.standard_normal(self.clean.shape)

    def over(self, numbers: Sequence[int]) -> Chosen:
        return Chosen(self, numbers)


class Chosen:
    """Some of the pictures as samples of a network."""

    def __init__(self, of: Pictures, numbers: Sequence[int]):
        self.of, self.numbers = of, list(numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def part(self, number: int, samples: Sequence[int], place: Place) -> np.ndarray:
        return place.own(self.of.noisy[[self.numbers[s] for s in samples]])[None]


def weights(model: str, layers: int, c: int) -> dict[str, np.ndarray]:
    """Of numbers that single precision has, so that both precisions are of one network."""
    drawn = np.random.default_rng(1).standard_normal
    found = {
        "o": 1 + 0.1 * drawn((c, 1)),
        "w": (1 + 0.1 * drawn((1, c))) / c,
        "b": 0.1 * drawn((layers, c)),
    }
    if model == "rd":
        found["k"] = 0.2 + 0.05 * drawn((layers, c))
        found["A"] = 0.3 * drawn((layers, c, c)) / np.sqrt(c)
        found["B"] = drawn((layers, c, c)) / np.sqrt(c)
    else:
        found["K"] = drawn((layers, c, c, 3, 3)) / np.sqrt(9 * c)
    return {name: w.astype(np.float32).astype(float) for name, w in found.items()}


def layer(model: str, place: Place, n: int) -> Step:
    bias = Weight("b", (place.channels,), n)
    if model == "rd":
        mix = Mixing(place, place.channels)
        inner, outer = Part.of(mix, "B", n), Part.of(mix, "A", n)
        linear = [Part.of(Diffusion(place), "k", n)]
        return Step(
            place, inner, Tanh(), bias, outer=outer, linear=linear, residual=True, dt=DT
        )
    kernel = Stencil(place, place.channels)
    inner, outer = Part.of(kernel, "K", n), Part.of(Transposed(kernel), "K", n, -1.0)
    return Step(place, inner, Tanh(), bias, outer=outer, residual=True, dt=DT)


def network(
    model: str,
    grid: Grid,
    layers: int,
    c: int,
    dtype: type[np.floating],
    path: str = "fused",
) -> Network:
    first = Place.on(grid)
    if path == PATHS[0]:  # messages of the other one are PETSc's
        first = replace(first, comm=Counted(grid.comm))
    place = first.with_channels(c)
    opening = Step(first, Part.of(Mixing(first, c), "o"))
    closing = Step(place, Part.of(Mixing(place, 1), "w"))
    steps = [opening, *(layer(model, place, n) for n in range(layers)), closing]
    return Network(grid, steps, dtype=dtype, path=path)


def objective(
    model: str,
    options: argparse.Namespace,
    precision: str,
    pictures: Pictures,
    space: MPI.Intracomm = MPI.COMM_SELF,
    ensemble: Ensemble | None = None,
    at_once: int | None = 1,
) -> tuple[Objective, PETSc.Vec]:
    n, layers, c = options.size, options.layers, options.channels
    own = ensemble.own(options.samples) if ensemble else range(options.samples)
    kind, grid = PRECISIONS[precision], Grid((n, n), comm=space)
    forward = network(model, grid, layers, c, kind, options.path).over(
        pictures.over(own)
    )
    observed = pictures.clean[list(own)].reshape(len(own), -1).T
    sigma = np.sqrt(pictures.clean.size)
    J = Objective(
        forward,
        [LeastSquares(observed, sigma, forward.layouts[0])],
        {},
        ensemble,
        at_once,
    )
    return J, J.space.from_values(weights(model, layers, c))


def gradient(J: Objective, m: PETSc.Vec) -> tuple[float, dict[str, np.ndarray]]:
    at = J.linearize(m)
    found = J.space.at(at.gradient()).coefficients()
    value = at.value, {name: np.array(g) for name, g in found.items()}
    at.destroy()
    return value


class Peer:
    """The same in PyTorch."""

    def __init__(
        self,
        model: str,
        options: argparse.Namespace,
        precision: str,
        pictures: Pictures,
    ):
        import torch
        from torch.nn import functional

        torch.set_num_threads(1)
        self.torch, self.functional, self.model = torch, functional, model
        kind = PRECISIONS[precision]
        self.noisy = torch.tensor(pictures.noisy.astype(kind))[:, None]
        self.clean = torch.tensor(pictures.clean.astype(kind))[:, None]
        drawn = weights(model, options.layers, options.channels)
        self.k = {name: torch.tensor(w.astype(kind)) for name, w in drawn.items()}
        self.layers = options.layers

    def _step(self, y: Any, k: dict[str, Any], n: int) -> Any:
        f = self.functional
        if self.model == "parabolic":
            h = self.torch.tanh(f.conv2d(y, k["K"][n], k["b"][n], padding=1))
            return y - DT * f.conv_transpose2d(h, k["K"][n], padding=1)
        p = f.pad(y, (1, 1, 1, 1), mode="replicate")
        beside = (
            p[..., 1:-1, 2:] + p[..., 1:-1, :-2] + p[..., 2:, 1:-1] + p[..., :-2, 1:-1]
        )
        h = self.torch.tanh(f.conv2d(y, k["B"][n][..., None, None], k["b"][n]))
        mixed = f.conv2d(h, k["A"][n][..., None, None])
        return y + DT * (k["k"][n][:, None, None] * (beside - 4 * y) + mixed)

    def _loss(self, k: dict[str, Any], samples: slice) -> Any:
        y = self.noisy[samples] * k["o"][:, :, None]
        for n in range(self.layers):
            y = self._step(y, k, n)
        out = (y * k["w"][0][:, None, None]).sum(1, keepdim=True)
        return 0.5 * ((out - self.clean[samples]) ** 2).sum() / self.clean.numel()

    def gradient(
        self, at_once: int | None = None
    ) -> tuple[float, dict[str, np.ndarray]]:
        k = {name: w.clone().requires_grad_(True) for name, w in self.k.items()}
        step, value = at_once or len(self.clean), 0.0
        for first in range(0, len(self.clean), step):
            loss = self._loss(k, slice(first, first + step))
            loss.backward()
            value += loss.item()
        return value, {name: w.grad.numpy() for name, w in k.items()}


def difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Relative, of all weights together."""
    parts = [np.linalg.norm(one[n].ravel() - other[n].ravel()) for n in one]
    return float(
        np.linalg.norm(parts)
        / np.linalg.norm([np.linalg.norm(v) for v in other.values()])
    )


class Waves:
    """One sample, whose values follow from places, so that no rank holds those of others."""

    def __len__(self) -> int:
        return 1

    def part(self, number: int, samples: Sequence[int], place: Place) -> np.ndarray:
        axes = [np.sin(0.01 * own) for own in place.layout.owned()[::-1]]
        found = np.float32(1) * axes[0]
        for axis in axes[1:]:
            found = found[..., None] * axis.astype(np.float32)
        return found[None, None]


def states(network: Network) -> float:
    """Bytes of what this rank keeps of one sample."""
    held = network.target.shape(1)
    values = float(np.prod(held))
    for step in network.steps:
        values += np.prod(step.source.shape(1))
        if isinstance(step, Step) and not step.recomputes:
            values += np.prod(step.inner.operator.target.shape(1))
    return values * network.dtype.itemsize


def large_weights(
    model: str, options: argparse.Namespace, dim: int
) -> dict[str, np.ndarray]:
    found = weights(model, options.layers, options.channels)
    if dim == 3 and model == "parabolic":
        shape = (*found["K"].shape, 3)
        found["K"] = np.random.default_rng(1).standard_normal(shape) / np.sqrt(
            27 * shape[1]
        )
    return found
