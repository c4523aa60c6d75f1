"""Ours beside what a careful user would write, each in a process and environment of its own, in
alternation: ratios of processor seconds of one thread, with their spread.

    make bench [PEERS=PYTHON] [TASKS="solve implicit"]
    python benchmarks/bench.py [--peers PYTHON] [--tasks ...] [--sizes 64 256] [--rounds 3]

PYTHON runs the scripts of benchmarks/peers; what it does not have is said to be absent. A ratio is
ours over the peer's of one round, below 1 where ours takes less; values are compared. Writes
results/bench.json and results/bench.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ABSENT = 3
Row = dict[str, Any]
TASKS: dict[str, tuple[list[int], list[list[str]]]] = {
    "solve": (
        [256, 512],
        [["solve_scipy.py", p] for p in ("cholmod", "superlu", "pyamg")],
    ),
    "implicit": (
        [64, 256, 512],
        [["implicit_scipy.py", p] for p in ("cholmod", "superlu")],
    ),
    "explicit": ([128, 512], [["explicit_numba.py"], ["explicit_torch.py"]]),
    "forward": ([128, 512], [["forward_pde.py"]]),
    "identify": ([64, 128], [["identify_scipy.py", p] for p in ("cholmod", "superlu")]),
}
"""Sizes, and peers with what follows their size."""
SAID = {
    "solve": "set-up and one solve to a true residual of 1e-8",
    "implicit": "50 implicit steps, gradient in D(x)",
    "explicit": "100 explicit steps of Gray-Scott, gradient",
    "forward": "100 explicit steps of Gray-Scott, no derivatives",
    "identify": "log D by nested iteration, gradient 1e-6 of the first",
}
CLOSE = 1e-4
"""Values of two programs that solve one problem differ by less."""


def one_thread() -> dict[str, str]:
    names = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
    )
    return {**os.environ, **dict.fromkeys(names, "1")}


def run(command: list[str]) -> Row | str:
    """What a process answers, or why it is absent. Raises RuntimeError where it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, env=one_thread(), cwd=HERE
    )
    if done.returncode == ABSENT:
        return done.stderr.strip()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    answered: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return answered


def measure(task: str, size: int, peers: str, rounds: int) -> list[Row]:
    """A row a peer."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "matrix.npz")
        first = file if task == "solve" else str(size)
        ours = [sys.executable, "bench_ours.py", task, str(size), "--matrix", file]
        found: dict[str, list[tuple[Row, Row]]] = {}
        absent: dict[str, str] = {}
        for _ in range(rounds):
            mine = run(ours)
            assert not isinstance(mine, str)
            for script, *rest in TASKS[task][1]:
                name = " ".join([script.removesuffix(".py").split("_", 1)[1], *rest])
                if name in absent:
                    continue
                other = run([peers, str(Path("peers") / script), first, *rest])
                if isinstance(other, str):
                    absent[name] = other
                else:
                    found.setdefault(name, []).append((mine, other))
        rows = [row(task, size, name, pairs) for name, pairs in found.items()]
        return rows + [
            {"task": task, "size": size, "peer": name, "absent": why}
            for name, why in absent.items()
        ]


def row(task: str, size: int, name: str, pairs: list[tuple[Row, Row]]) -> Row:
    ratios = sorted(mine["seconds"] / other["seconds"] for mine, other in pairs)
    mine, other = pairs[-1]
    found: Row = {
        "task": task,
        "size": size,
        "peer": name,
        "ratio": float(np.median(ratios)),
        "least": ratios[0],
        "most": ratios[-1],
        "ours_s": min(m["seconds"] for m, _ in pairs),
        "peer_s": min(o["seconds"] for _, o in pairs),
        "apart": abs(mine["value"] - other["value"]) / abs(other["value"]),
    }
    found["same"] = found["apart"] < CLOSE
    for key in ("residual",):
        if key in other:
            found[key], found[f"peer_{key}"] = mine[key], other[key]
    return found


def machine() -> Row:
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    with open("/proc/cpuinfo") as file:
        names = [
            line.split(":")[1].strip() for line in file if line.startswith("model name")
        ]
    return {
        "commit": commit or "not a checkout",
        "machine": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": 1,
        "load": os.getloadavg()[0],
    }


def draw(rows: list[Row], where: Row, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [r for r in rows if "ratio" in r][::-1]
    names = [f"{r['task']} {r['size']}$^2$ / {r['peer']}" for r in shown]
    ratios = np.array([r["ratio"] for r in shown])
    spread = np.abs([[r["least"] for r in shown], [r["most"] for r in shown]] - ratios)
    figure, axes = pyplot.subplots(
        figsize=(7, 1 + 0.3 * len(shown)), layout="constrained"
    )
    colours = ["tab:green" if r <= 1 else "tab:red" for r in ratios]
    axes.barh(names, ratios, xerr=spread, color=colours, ecolor="0.3")
    axes.axvline(1.0, color="0.3", lw=1)
    axes.set_xscale("log")
    axes.set_xlabel("processor seconds, ours / peer (one thread)")
    axes.set_title(f"{where['commit']}, {where['machine']}", fontsize=8)
    figure.savefig(file, dpi=130)


def said(r: Row) -> str:
    head = f"{r['task']:9} {r['size']:5}^2  {r['peer']:16}"
    if "absent" in r:
        return f"{head} absent: {r['absent']}"
    text = f"{head} {r['ratio']:6.2f}  [{r['least']:.2f}, {r['most']:.2f}]"
    text += f"  {r['ours_s']:.4g} s, {r['peer_s']:.4g} s"
    if "residual" in r:
        text += f"  residuals {r['residual']:.1e}, {r['peer_residual']:.1e}"
    return text if r["same"] else f"{text}  VALUES DIFFER by {r['apart']:.1e}"


def main() -> None:
    args = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    args.add_argument("--peers", default=os.environ.get("NPDE_PEERS") or sys.executable)
    args.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    args.add_argument("--sizes", nargs="+", type=int, help="instead of each task's own")
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--out", type=Path, default=HERE / "results" / "bench.json")
    given = args.parse_args()
    where, rows = machine(), list[Row]()
    print(", ".join(f"{key} {value}" for key, value in where.items()), flush=True)
    print("ours / peer: median [least, most], seconds of both", flush=True)
    for task in given.tasks:
        print(f"{task}: {SAID[task]}", flush=True)
        for size in given.sizes or TASKS[task][0]:
            found = measure(task, size, given.peers, given.rounds)
            print(*map(said, found), sep="\n", flush=True)
            rows += found
    where["load_after"] = os.getloadavg()[0]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({**where, "rows": rows}, indent=2) + "\n")
    draw(rows, where, given.out.with_suffix(".png"))
    print(f"written: {given.out}, {given.out.with_suffix('.png')}")
    if not all(r.get("same", True) for r in rows):
        raise SystemExit("values of two programs differ")


if __name__ == "__main__":
    main()
