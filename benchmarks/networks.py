"""Gradients of residual networks on pictures beside the same networks in PyTorch.

    rd         Y <- Y + dt (k lap Y + A tanh(B Y + b)),  k by channel, A and B within cells
    parabolic  Y <- Y - dt K^T tanh(K Y + b),            K a 3 x 3 convolution

16 layers of 8 channels between products that open and close them, on 4 noisy pictures of discs of
256^2 cells; the loss is half the mean of (output - picture)^2.

    scripts/npde-env python benchmarks/networks.py [--models rd] [--precisions single]
    scripts/npde-env python benchmarks/networks.py --path assembled --precisions double
    mpirun -n 2 python benchmarks/networks.py --split groups      # or --split space
    mpirun -n 2 python benchmarks/networks.py --large 4096 4096   # or three sizes, a volume

One thread. Times are the best of some in turn, in processor seconds; peaks are of processes of
their own, above what they had before. Needs the package torch for what is beside.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np  # noqa: E402
from common import Row, comm, parser, report  # noqa: E402
from mpi4py import MPI  # noqa: E402
from petsc4py import PETSc  # noqa: E402

from npde_opt.ensemble import Ensemble  # noqa: E402
from npde_opt.grids import Grid  # noqa: E402
from npde_opt.misfits import LeastSquares  # noqa: E402
from npde_opt.networks import (  # noqa: E402
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
from npde_opt.objective import Objective  # noqa: E402

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


def best(actions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Processor seconds of each, in turn."""
    found = []
    for _ in range(repeats):
        row = []
        for action in actions:
            start = time.process_time()
            action()
            row.append(time.process_time() - start)
        found.append(row)
    return [float(t) for t in np.min(found, axis=0)]


def resident(key: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most since `forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def forget() -> float:
    """The peak is what is held now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak(options: argparse.Namespace, who: str, model: str, precision: str) -> float:
    """MiB of one gradient in a process of its own, above what was there before."""
    given = ["--measure", who, "--models", model, "--precisions", precision]
    named = ("size", "samples", "layers", "channels", "path")
    sizes = [f"--{n}={getattr(options, n)}" for n in named]
    command = [sys.executable, __file__, *given, *sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> None:
    pictures = Pictures(options.samples, options.size)
    (model,), (precision,) = options.models, options.precisions
    if options.measure == "ours":
        J, m = objective(model, options, precision, pictures)
        action = partial(gradient, J, m)
    else:
        peer = Peer(model, options, precision, pictures)
        action = partial(
            peer.gradient, 1 if options.measure == "one at a time" else None
        )
    small = argparse.Namespace(**{**vars(options), "size": 8})
    gradient(
        *objective(model, small, precision, Pictures(options.samples, 8))
    )  # loads all code
    if options.measure != "ours":
        Peer(model, small, precision, Pictures(options.samples, 8)).gradient()
    before = forget()
    action()
    print(json.dumps(resident("VmHWM") - before))


def beside(options: argparse.Namespace, model: str, precision: str) -> Row:
    pictures = Pictures(options.samples, options.size)
    J, m = objective(model, options, precision, pictures)
    row: Row = {"model": model, "precision": precision, "weights": m.getSize()}
    try:
        peer = Peer(model, options, precision, pictures)
    except ModuleNotFoundError:
        gradient(J, m)
        print("PyTorch is not installed (package torch): nothing to compare with")
        return {**row, "s": best([partial(gradient, J, m)], options.repeats)[0]}
    (value, g), (other, theirs) = gradient(J, m), peer.gradient()
    own, torch = best([partial(gradient, J, m), peer.gradient], options.repeats)
    row |= {"s": own, "torch s": torch, "ratio": own / torch}
    row |= {
        "loss differs": abs(value / other - 1),
        "gradient differs": difference(g, theirs),
    }
    if precision == "single":
        row["from double"] = difference(
            g, gradient(*objective(model, options, "double", pictures))[1]
        )
    peaks = [
        peak(options, who, model, precision)
        for who in ("ours", "torch", "one at a time")
    ]
    row |= {
        "MiB": peaks[0],
        "of torch": peaks[0] / peaks[1],
        "of one by one": peaks[0] / peaks[2],
    }
    return row


def split(options: argparse.Namespace, model: str, precision: str) -> Row:
    """All ranks beside one of them, in turn, in elapsed seconds: a rank waits for the others."""
    pictures = Pictures(options.samples, options.size)
    space, ensemble, at_once = comm, None, None
    if options.split == "groups":
        ensemble, at_once = Ensemble.split(comm, comm.size, options.samples), 1
        space = ensemble.space
    together = objective(model, options, precision, pictures, space, ensemble, at_once)
    alone = objective(model, options, precision, pictures)
    value, g = gradient(*together)
    Counted.sent = 0
    gradient(*together)
    row: Row = {
        "model": model,
        "precision": precision,
        "messages of rank 0": Counted.sent,
    }
    found = []
    for _ in range(options.repeats):
        comm.Barrier()
        start = time.perf_counter()
        gradient(*together)
        comm.Barrier()
        middle = time.perf_counter()
        if comm.rank == 0:
            other, theirs = gradient(*alone)
        comm.Barrier()
        found.append((middle - start, time.perf_counter() - middle))
    many, one = (float(t) for t in np.min(found, axis=0))
    row |= {f"{comm.size} ranks s": many, "1 rank s": one, "times": one / many}
    if comm.rank == 0:
        row |= {
            "loss differs": abs(value / other - 1),
            "gradient differs": difference(g, theirs),
        }
    return row


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


def large(options: argparse.Namespace, model: str, precision: str) -> Row:
    """One picture or volume: the gradient of |F|^2 / 2."""
    c, kind = options.channels, PRECISIONS[precision]

    def made(sizes: Sequence[int]) -> tuple[Any, PETSc.Vec]:
        grid = Grid(tuple(sizes), comm=comm)
        whole = network(model, grid, options.layers, c, kind, options.path)
        forward = whole.over(Waves())
        values = large_weights(model, options, grid.dim)
        return forward, forward.space.from_values(values)

    def found(forward: Any, m: PETSc.Vec) -> PETSc.Vec:
        at = forward.linearize(m)
        return at.apply_adjoint(at.data)

    small = [min(n, 16 * comm.size) for n in options.large]
    found(*made(small)).destroy()  # loads all code
    forward, m = made(options.large)
    before, start = forget(), time.perf_counter()
    g = found(forward, m)
    elapsed = time.perf_counter() - start
    used, needed = resident("VmHWM") - before, states(forward.network) / 2**20
    most = comm.allreduce(used, op=MPI.MAX)
    norm = g.norm()
    return {
        "model": model,
        "precision": precision,
        "ranks": comm.size,
        "states MiB": needed,
        "MiB": most,
        "of states": most / needed,
        "s": elapsed,
        "gradient": norm,
    }


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


def main() -> None:
    p = parser("networks", __doc__ or "")
    p.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    p.add_argument(
        "--precisions", nargs="+", default=list(PRECISIONS), choices=list(PRECISIONS)
    )
    p.add_argument(
        "--path", default=PATHS[0], choices=PATHS, help="assembled: in double precision"
    )
    p.add_argument("--size", type=int, default=256, help="cells a side")
    p.add_argument("--samples", type=int, default=4)
    p.add_argument("--layers", type=int, default=16)
    p.add_argument("--channels", type=int, default=8)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--split", choices=("groups", "space"), help="all ranks beside one")
    p.add_argument(
        "--large", type=int, nargs="+", help="cells along x, y (and z) of one sample"
    )
    p.add_argument(
        "--measure", choices=("ours", "torch", "one at a time"), help=argparse.SUPPRESS
    )
    options = p.parse_args()
    if options.measure:
        measure(options)
        return
    row = large if options.large else split if options.split else beside
    found = [
        row(options, m, precision)
        for m in options.models
        for precision in options.precisions
    ]
    report("networks", found, options.out)


if __name__ == "__main__":
    main()
