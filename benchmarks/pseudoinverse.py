"""Least squares: QR and products against scipy's gelsd, on one thread and on ranks, and a stream.

OMP_NUM_THREADS=1 python benchmarks/pseudoinverse.py [--rows 60000 --columns 2000 --targets 10]
OMP_NUM_THREADS=1 mpirun -n 2 python benchmarks/pseudoinverse.py [--repeats 3]
                                                                 [--stream 2000000 500]

On one rank every method runs in a process of its own (processor seconds of the method alone, not
of making rows; peak memory above that of the imports); beside products stands their floor, the time
of BLAS for the flops of H^T H in that of gelsd: of dsyrk, or of dgemm where that is faster. On
several ranks: seconds of rank 0 alone over those of all, then a stream of rows that nobody keeps,
in units of its flops at the mean rate of products of a block with a panel of 32 columns, and with
all columns, which are measured in turn with the blocks (see `Products`). The first is what a QR of
these shapes is made of, as reflections are known a few columns at a time; the second, of whole
blocks, is faster and the harder measure, as the fold itself works by products of whole blocks. The
figure is met beyond doubt where it is by both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import scipy.linalg
from common import Row, comm, parser, report
from mpi4py import MPI
from scipy.linalg import blas

from npde_opt.io.results import peak_memory_mb
from npde_opt.pseudoinverse import METHODS, Fold, Rows

EPS = float(np.finfo(float).eps)
BLOCK = 2000
PANEL = 32
CALLS = 9
"""Of a product that is timed alone."""
FIGURES = {"qr": (0.85, 0.35), "gram": (0.25, None)}
"""Processor time and memory in those of gelsd that are wanted."""


def blocks(
    rows: int, columns: int, targets: int, seed: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Random rows, always the same, each of its own: a block that comes again would leave R without
    full rank until as many columns have changed as it misses. Targets follow H in one way, whatever
    the seed."""
    rng = np.random.default_rng(seed)
    H = np.empty((BLOCK, columns))
    W = np.random.default_rng(0).standard_normal((columns, targets))
    noise = rng.standard_normal((BLOCK, targets))
    for start in range(0, rows, BLOCK):
        rng.standard_normal(out=H)
        count = min(BLOCK, rows - start)
        yield H[:count], H[:count] @ W + noise[:count]


def folded(
    method: str, rows: int, columns: int, targets: int, own: MPI.Intracomm
) -> tuple[Rows, float]:
    """Every rank's rows, and the processor seconds that it took to fold them."""
    fit = METHODS[method](columns, targets, comm=own, block=BLOCK)
    share, taken = rows // own.size, 0.0
    for H, T in blocks(share, columns, targets, own.rank):
        start = time.process_time()
        fit.add(H, T)
        taken += time.process_time() - start
    return fit, taken


def one(method: str, rows: int, columns: int, targets: int) -> None:
    """Prints one method's processor seconds and memory as JSON."""
    before = peak_memory_mb(MPI.COMM_SELF)
    folding = 0.0
    if method == "gelsd":
        H, T = np.empty((rows, columns)), np.empty((rows, targets))
        for at, (part, right) in enumerate(blocks(rows, columns, targets, 0)):
            H[at * BLOCK : (at + 1) * BLOCK], T[at * BLOCK : (at + 1) * BLOCK] = (
                part,
                right,
            )
        start = time.process_time()
        W = scipy.linalg.lstsq(H, T, cond=columns * EPS, lapack_driver="gelsd")[0]
    else:
        fit, folding = folded(method, rows, columns, targets, MPI.COMM_SELF)
        start = time.process_time()
        W = fit.solve().W
    taken = time.process_time() - start + folding
    memory = peak_memory_mb(MPI.COMM_SELF) - before
    floor = squares_alone(rows, columns) if method == "gram" else None
    print("ANSWER" + json.dumps([taken, memory, floor, W[:, 0].tolist()]))


def squares_alone(rows: int, columns: int) -> float:
    """Processor seconds of BLAS for the flops of H^T H, and nothing else, by the faster of dsyrk
    and, as if half of a general product could be had, dgemm: no method that forms it is faster."""
    H = np.random.default_rng(0).standard_normal((BLOCK, columns))
    G = np.zeros((columns, columns), order="F")
    X, half = H.T, H[: BLOCK // 2].T

    def symmetric() -> None:
        blas.dsyrk(1.0, X, beta=1.0, c=G, overwrite_c=1)

    def general() -> None:
        blas.dgemm(1.0, half, half, beta=1.0, c=G, trans_b=1, overwrite_c=1)

    taken = dict[Callable[[], None], list[float]]({symmetric: [], general: []})
    for _ in range(CALLS):
        for call, own in taken.items():
            start = time.process_time()
            call()
            own.append(time.process_time() - start)
    return min(float(np.median(own)) for own in taken.values()) * rows / BLOCK


def compared(rows: int, columns: int, targets: int, repeats: int) -> list[Row]:
    """gelsd, QR and products in turn; the least of each."""
    found: dict[str, list[float]] = {}
    answers = {}
    floor = np.inf
    for _ in range(repeats):
        for method in ("gelsd", *METHODS):
            sizes = map(str, (rows, columns, targets))
            command = [sys.executable, __file__, "--only", method, "--sizes", *sizes]
            said = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout
            line = next(x for x in said.splitlines() if x.startswith("ANSWER"))
            taken, memory, alone, answers[method] = json.loads(line[len("ANSWER") :])
            least = found.get(method, [np.inf, np.inf])
            found[method] = [min(taken, least[0]), min(memory, least[1])]
            if alone is not None:
                floor = min(alone, floor)
    rows_of_table = []
    for method, (taken, memory) in found.items():
        wanted = FIGURES.get(method, (None, None))
        size = max(map(abs, answers["gelsd"]))
        differs = max(
            abs(a - b) for a, b in zip(answers[method], answers["gelsd"], strict=True)
        )
        rows_of_table.append(
            {
                "what": f"{method} {rows} x {columns}, {targets} targets",
                "cpu_s": taken,
                "of_gelsd": taken / found["gelsd"][0],
                "wanted": wanted[0] or "",
                "floor": floor / found["gelsd"][0] if method == "gram" else "",
                "memory_mb": memory,
                "memory_of_gelsd": memory / found["gelsd"][1],
                "memory_wanted": wanted[1] or "",
                "W_differs": differs / size,
            }
        )
    return rows_of_table


class Counted(MPI.Intracomm):
    """Counts what `fold_ranks` sends."""

    def Send(self, numbers: np.ndarray, dest: int) -> None:  # type: ignore[override]  # noqa: N802
        SENT.append(numbers.size)
        super().Send(numbers, dest=dest)


SENT: list[int] = []


def on_ranks(rows: int, columns: int, targets: int, repeats: int) -> list[Row]:
    """One rank with all rows, then all ranks with their shares; seconds, and those of the processor
    (the rank with most of them until all have folded, then rank 0's), which others that use the
    machine change less. In turn, and the least of each: what a process does for the first time,
    as memory that comes in, does not depend on its share."""
    found = []
    for method in METHODS:
        seconds, cpu = [np.inf, np.inf], [np.inf, np.inf]
        for at, own in [*enumerate((MPI.COMM_SELF, comm))] * repeats:
            comm.Barrier()
            start, taken = time.perf_counter(), 0.0
            if own is comm or comm.rank == 0:
                fit, folding = folded(method, rows, columns, targets, own)
                taken = own.allreduce(folding, MPI.MAX)
                began = time.process_time()
                fit.solve()
                taken += time.process_time() - began
            comm.Barrier()
            seconds[at] = min(time.perf_counter() - start, seconds[at])
            cpu[at] = min(comm.bcast(taken), cpu[at])
        found.append(
            {
                "what": f"{method} {rows} x {columns}, {comm.size} ranks",
                "seconds": seconds[1],
                "times_one_rank": seconds[0] / seconds[1],
                "cpu_s": cpu[1],
                "cpu_times_one_rank": cpu[0] / cpu[1],
                "wanted": 1.8,
            }
        )
    return found


class Products:
    """Products (panel x rows) (rows x columns), and what a QR with panels subtracts with them."""

    def __init__(self, panel: int, columns: int):
        rng = np.random.default_rng(0)
        self.V = np.asfortranarray(rng.standard_normal((BLOCK, panel)))
        self.C = np.asfortranarray(rng.standard_normal((BLOCK, columns)))
        self.flops = self.seconds = 0.0

    def __call__(self) -> None:
        start = time.process_time()
        S = blas.dgemm(1.0, self.V, self.C, trans_a=1)
        self.C = blas.dgemm(-1e-9, self.V, S, beta=1.0, c=self.C, overwrite_c=1)
        self.seconds += time.process_time() - start
        self.flops += 4.0 * self.V.size * self.C.shape[1]

    @property
    def rate(self) -> float:
        """Flops a second, of all calls."""
        return self.flops / self.seconds


def streamed(rows: int, columns: int, targets: int) -> list[Row]:
    """Rows that nobody keeps, and the messages at the end; products in turn with the blocks."""
    SENT.clear()
    width = columns + targets
    fit = Fold(columns, targets, comm=Counted(comm), block=BLOCK)
    panels, squares = Products(PANEL, width), Products(width, width)
    taken = 0.0
    for at, (H, T) in enumerate(blocks(rows // comm.size, columns, targets, comm.rank)):
        start = time.process_time()
        fit.add(H, T)
        taken += time.process_time() - start
        if at % 10 == 0:
            squares()
            for _ in range(8):
                panels()
    start = time.process_time()
    fit.solve()
    taken += time.process_time() - start
    flops = 2.0 * rows * width**2 / comm.size
    memory = peak_memory_mb(comm)
    messages = comm.allreduce(len(SENT))
    numbers = comm.allreduce(sum(SENT))
    return [
        {
            "what": f"stream {rows} x {columns}, {comm.size} ranks",
            "cpu_s": comm.allreduce(taken),
            "of_flops_at_panel_rate": comm.allreduce(taken / flops * panels.rate)
            / comm.size,
            "of_flops_at_square_rate": comm.allreduce(taken / flops * squares.rate)
            / comm.size,
            "wanted": 1.1,
            "memory_mb": memory,
            "memory_wanted_mb": 1500,
            "messages": messages,
            "numbers_a_message": numbers / max(messages, 1),
            "half_a_triangle": width * (width + 1) // 2,
        }
    ]


def main() -> None:
    args = parser("pseudoinverse", __doc__)
    args.add_argument("--rows", type=int, default=60_000)
    args.add_argument("--columns", type=int, default=2_000)
    args.add_argument("--targets", type=int, default=10)
    args.add_argument("--repeats", type=int, default=1)
    args.add_argument("--stream", type=int, nargs=2, default=[2_000_000, 500])
    args.add_argument("--only", help=None, choices=("gelsd", *METHODS))
    args.add_argument("--sizes", type=int, nargs=3)
    given = args.parse_args()
    if given.only:
        return one(given.only, *given.sizes)
    sizes = given.rows, given.columns, given.targets
    if comm.size == 1:
        rows = compared(*sizes, given.repeats)
    else:
        count, columns = given.stream
        rows = on_ranks(*sizes, given.repeats) + streamed(count, columns, given.targets)
    report("pseudoinverse", rows, given.out)
    return None


if __name__ == "__main__":
    main()
