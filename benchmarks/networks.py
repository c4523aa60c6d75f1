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
from functools import partial
from pathlib import Path
from typing import Any

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np  # noqa: E402
from common import Row, comm, parser, report  # noqa: E402
from mpi4py import MPI  # noqa: E402
from petsc4py import PETSc  # noqa: E402
from residual_networks import (  # noqa: E402
    MODELS,
    PRECISIONS,
    Counted,
    Peer,
    Pictures,
    Waves,
    difference,
    gradient,
    large_weights,
    network,
    objective,
    states,
)

from npde_opt.ensemble import Ensemble  # noqa: E402
from npde_opt.grids import Grid  # noqa: E402
from npde_opt.networks import PATHS  # noqa: E402


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


def elapsed(action: Callable[[], Any]) -> float:
    """Seconds until all ranks have done it."""
    comm.Barrier()
    start = time.perf_counter()
    action()
    comm.Barrier()
    return time.perf_counter() - start


def on_first(action: Callable[[], Any]) -> None:
    """On rank 0, while the others wait."""
    if comm.rank == 0:
        action()


def apart(options: argparse.Namespace, model: str, precision: str) -> float:
    """What the machine gives to as many runs that know nothing of each other: the size of the work
    of all, each with its share of the samples, beside one of them, by the time that it takes."""
    samples = max(options.samples // comm.size, 1)
    own = argparse.Namespace(**{**vars(options), "samples": samples})
    J, m = objective(model, own, precision, Pictures(samples, options.size))
    action = partial(gradient, J, m)
    action()
    found = [
        (elapsed(action), elapsed(partial(on_first, action)))
        for _ in range(options.repeats)
    ]
    many, one = np.min(found, axis=0)
    return float(comm.size * one / many)


def split(options: argparse.Namespace, model: str, precision: str) -> Row:
    """All ranks beside one of them, in turn, in elapsed seconds: a rank waits for the others. Of
    groups, `times, apart` is what this machine gives to runs without any message."""
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
        many = elapsed(partial(gradient, *together))
        one = elapsed(partial(on_first, partial(gradient, *alone)))
        found.append((many, one))
    many, one = (float(t) for t in np.min(found, axis=0))
    row |= {f"{comm.size} ranks s": many, "1 rank s": one, "times": one / many}
    if options.split == "groups":
        row["times, apart"] = apart(options, model, precision)
    if comm.rank == 0:
        other, theirs = gradient(*alone)
        row |= {
            "loss differs": abs(value / other - 1),
            "gradient differs": difference(g, theirs),
        }
    return row


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
