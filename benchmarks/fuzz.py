"""Seeded mutants of every shipped case through `check`: each ends in "well formed" or in lines that
name what is wrong.

    scripts/npde-env python benchmarks/fuzz.py --mutants 2000 --seed 0 --run 60

Counts what was accepted, refused, ended in a traceback, took over 20 s, or ran a command that a
text of the case asks for. With --run so many of the accepted mutants are also run: forward map,
misfit and gradient. Mutants that failed are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import math
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutations import ADDED, HOSTILE, INTEGERS, NUMBERS, OTHERS, REALS, TERMS, WORDS

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 20.0
RUN_LIMIT = 60.0
SENTINEL = "a command ran"
SMALL = {"grid.shape": 8, "grid.coarsen": 24}


def toml(value: Any) -> str:
    """A value in TOML, tables inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return (
            repr(value)
            if math.isfinite(value)
            else str(value).replace("infinity", "inf")
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items())
            + " }"
            if value
            else "{}"
        )
    return str(value)


def written(case: dict[str, Any]) -> str:
    return "\n".join(f"{json.dumps(k)} = {toml(v)}" for k, v in case.items()) + "\n"


def stand_ins(folder: Path) -> None:
    """Small files in the place of those that are not shipped, and some that no case can use."""
    import numpy as np
    import scipy.io

    rng = np.random.default_rng(0)
    np.savez(
        folder / "observations.npz",
        xy=rng.uniform(0.1, 0.9, (5, 2)),
        data=rng.random(5),
    )
    scipy.io.savemat(
        folder / "harmonic_osc.mat",
        {"usol": rng.random((401, 8)) + 1j * rng.random((401, 8))},
    )
    places, times = np.arange(30, 1850, 50), (0, 12, 24, 36, 48)
    rows = [
        f"{i},{p},{d},{d},{1.1 * float(d):.6g},{0.9 * float(d):.6g},{t}"
        for t in times
        for d in [f"{1e-4 * (1 + t / 50):.6g}"]
        for i, p in enumerate(places)
    ]
    head = "Column,Position,AvgDens,Dens1,Dens2,Dens3,Time"
    for cells in (10, 12, 16, 20):
        name = f"CellDensity_{cells}.csv"
        (folder / name).write_text("\n".join([head, *rows]) + "\n")
    for r in (30, 90):
        np.savetxt(
            folder / f"piezometer_h{r}.txt",
            np.column_stack([np.geomspace(0.3, 800, 6), -rng.random(6)]),
        )
    for name, key, values in (
        ("PERM_SPE10MODEL1.INC", "PERMX", np.full(64, 5.0)),
        ("PERM_0704.prop", "PERMX", np.full(512, 5.0)),
        ("ACTNUM_0704.prop", "ACTNUM", np.ones(512, int)),
    ):
        (folder / name).write_text(key + "\n" + " ".join(map(str, values)) + " /\n")
    np.save(folder / "one.npy", np.ones((8, 8)))
    np.save(folder / "complex.npy", np.ones(8) * 1j)
    np.save(folder / "nan.npy", np.full((8, 8), np.nan))
    (folder / "one.csv").write_text("t,v\n0,1\n1,2\n")
    (folder / "text.csv").write_text("a;b\nx;y\n")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")


def shrunk(case: dict[str, Any]) -> dict[str, Any]:
    """The case on few cells and steps."""
    grid = case.get("grid", {})
    if "shape" in grid:
        grid["shape"] = [min(8, n) for n in grid["shape"]]
    if "scratch" not in str(case["case"]["title"]).lower() and "coarsen" in grid:
        grid["coarsen"] = SMALL["grid.coarsen"]
    if "Scratch" in case["case"]["title"]:
        grid["shape"] = [37]
    # Cells along one axis are few, and fewer that grow would not reach its end.
    for edges in grid.get("edges", []) if len(grid.get("edges", [])) > 1 else []:
        edges["count"] = 24
    times = case.get("time", {}).get("times", {})
    if "steps" in times:
        times["steps"] = 30
    for o in case["observation"]:
        if "random" in o:
            o["random"] = 5
    text = (
        json.dumps(case)
        .replace("[46, 112, 22]", "[8, 8, 8]")
        .replace("[100, 1, 20]", "[8, 1, 8]")
    )
    return dict(json.loads(text))


def shipped() -> dict[str, dict[str, Any]]:
    """Every case of an equation in meshes/, small."""
    read = {
        f.stem: tomllib.loads(f.read_text())
        for f in sorted((ROOT / "meshes").glob("*.toml"))
    }
    return {name: shrunk(case) for name, case in read.items() if "observation" in case}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values below."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def at(case: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        case = case[key]
    return case


def mutate(case: dict[str, Any], rng: random.Random) -> None:
    """One change somewhere."""
    found = list(places(case))
    if not found:
        return
    path = rng.choice(found)
    parent, key = at(case, path[:-1]), path[-1]
    old, kind = parent[key], rng.randrange(12)
    if kind == 0:
        del parent[key]
    elif kind == 1:
        parent[key] = rng.choice(NUMBERS)
    elif kind in (2, 3):
        parent[key] = rng.choice(HOSTILE).replace("SENTINEL", SENTINEL)
    elif kind == 4:
        parent[key] = copy.deepcopy(rng.choice(OTHERS))
    elif kind == 5 and isinstance(parent, dict):
        parent[
            rng.choice(
                [key + "s", key[:-1] or "q", key.upper(), "", "\u00e9", "__class__"]
            )
        ] = parent.pop(key)
    elif kind == 6 and isinstance(old, int | float) and not isinstance(old, bool):
        parent[key] = rng.choice(
            [
                -old,
                old * 10,
                old * 1e6,
                old * 1e-6,
                str(old),
                [old],
                float(old),
                old + 1,
            ]
        )
    elif kind == 7 and isinstance(old, list):
        parent[key] = rng.choice(
            [old[::-1], old[:-1], old + old, [old], old[:1], old * 200]
        )
    elif kind == 8:
        parent[key] = copy.deepcopy(at(case, rng.choice(found)))
    elif kind == 9 and isinstance(old, str):
        i = rng.randrange(len(old) + 1)
        piece = rng.choice(
            ["(", ")", "*", "x", "/0", "**", " ", "\u221e", "'", "[0]", ".y", ":="]
        )
        parent[key] = old[:i] + piece + old[i + rng.randrange(2) :]
    elif kind == 10:
        deep: Any = old
        for _ in range(rng.choice([1, 3, 60])):
            deep = rng.choice([[deep], {"a": deep}])
        parent[key] = deep
    else:
        parent[key] = {"value": old} if rng.random() < 0.5 else [old, old]


def vary(case: dict[str, Any], rng: random.Random) -> None:
    """One change to a value of the same type, so that it gets past the types."""
    found = [p for p in places(case) if not isinstance(at(case, p), dict | list)]
    if not found:
        return
    path = rng.choice(found)
    parent, key = at(case, path[:-1]), path[-1]
    old = parent[key]
    if isinstance(old, bool):
        parent[key] = not old
    elif isinstance(old, int):
        parent[key] = rng.choice(INTEGERS)
    elif isinstance(old, float):
        parent[key] = rng.choice(
            [*REALS, -old, old * 1e6, old * 1e-6, old * 1.5, old * 1e-30, old * 1e30]
        )
    else:
        parent[key] = (
            rng.choice(WORDS)
            if rng.random() < 0.8
            else rng.choice(HOSTILE).replace("SENTINEL", SENTINEL)
        )


def add(case: dict[str, Any], rng: random.Random) -> None:
    """A key of a section, set to what it may be, or almost; or a term of the equation."""
    if rng.random() < 0.1:
        terms = case.setdefault("equation", {}).setdefault("terms", [])
        terms.append(copy.deepcopy(rng.choice(TERMS)))
        return
    section = rng.choice([s for s in ADDED if s in case or rng.random() < 0.15])
    tables = case.setdefault(section, {})
    if isinstance(tables, list):
        tables = rng.choice(tables)
    key = rng.choice(list(ADDED[section]))
    tables[key] = copy.deepcopy(rng.choice(ADDED[section][key]))


def garbled(text: str, rng: random.Random) -> str:
    """A change of the file's text."""
    i = rng.randrange(len(text))
    return rng.choice(
        [
            text[:i],
            text[:i] + text[i + 1 :],
            text + text,
            text.replace("=", ":", 1),
            text[:i] + "\x00" + text[i:],
            text + "\nq = " + "9" * 5000,
            text + "\nq = " + "[" * 3000,
            text + "\nq = 1979-05-27T07:32:00Z",
            "\ufeff" + text,
            text.replace("\n", "\r\n"),
            text + "\nvariables = 3",
            "",
        ]
    )


def mutants(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Names and texts of mutated cases, the same for the same seed; one to four changes each."""
    cases, rng = shipped(), random.Random(seed)
    names = [n for n in cases if "mni152" not in json.dumps(cases[n])] * 4 + list(cases)
    for _ in range(count):
        name = rng.choice(names)
        case = copy.deepcopy(cases[name])
        for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
            with contextlib.suppress(KeyError, IndexError, TypeError, AttributeError):
                rng.choice([mutate, vary, vary, add, add])(case, rng)
        text = written(case)
        yield name, garbled(text, rng) if rng.random() < 0.05 else text


# ---- a worker: checks files that it is told, one JSON line each ---------------------------------


def outcome(path: str, data: str, run: bool) -> dict[str, Any]:
    """What `check` says of a case, or how a run of it ends."""
    from npde_opt.cases import check_main
    from npde_opt.errors import NpdeError

    said = io.StringIO()
    try:
        if run:
            try:
                once(path, data)
            except NpdeError as error:
                return {"kind": "refused in the run", "text": str(error)[:300]}
            return {"kind": "ran", "text": ""}
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            code = check_main([path, "--data", data])
        lines = said.getvalue().splitlines()
        # Keys of the older format follow an error's line, one each.
        named = all(line.startswith(("error: ", "  ")) for line in lines)
        if code and not (lines and named):
            return {
                "kind": "traceback",
                "text": "not one line: " + said.getvalue()[:2000],
            }
        if code:
            return {"kind": "refused", "text": lines[0][:300]}
        return {"kind": "accepted", "text": ""}
    except BaseException:
        return {"kind": "traceback", "text": traceback.format_exc()[-3000:]}


def once(path: str, data: str) -> None:
    """Data, objective and gradient of a case at its start."""
    from mpi4py import MPI

    from npde_opt.cases import load_case
    from npde_opt.ensemble import Ensemble

    case = load_case(path, MPI.COMM_SELF, data=data)
    ensemble = Ensemble.whole(MPI.COMM_SELF)
    case.weight_override = 1.0
    grid = case.grid(MPI.COMM_SELF)
    case.prepare(ensemble)
    objective, m = case.build(grid, ensemble)
    point = objective.linearize(m)
    point.gradient()
    point.destroy()
    objective.destroy()


def work() -> None:
    sys.path.insert(0, str(ROOT))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(outcome(**job)), file=answers, flush=True)


class Worker:
    """A process that checks one file after the other, ended and started anew where it takes too
    long."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        env = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("OMPI_", "PMIX_", "PMI_", "ORTE_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env | {"OMP_NUM_THREADS": "1"},
        )
        process = self.process
        self.ask({"path": "", "data": "", "run": False}, 300)  # imports take their time
        if self.process is None:
            raise RuntimeError("the worker does not start: try --worker")
        return process

    def ask(self, job: dict[str, Any], limit: float = LIMIT) -> dict[str, Any]:
        process = self.process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.end()
            return self.ask(job, limit)
        ready, _, _ = select.select([process.stdout], [], [], limit)
        answer = process.stdout.readline() if ready else b""
        if answer:
            return dict(json.loads(answer))
        status = process.poll()
        self.end()
        return {
            "kind": "hang" if not ready else "traceback",
            "text": "" if not ready else f"the process died: {status}",
        }

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def fuzz(
    seed: int, count: int, run: int = 0, limit: float = LIMIT, keep: Path | None = None
) -> dict[str, Any]:
    """Counts by kind, and the mutants that failed."""
    counts: dict[str, int] = {}
    failures, slowest, ran, worker = [], 0.0, 0, Worker()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "data").mkdir()
        stand_ins(folder / "data")
        path = folder / "case.toml"
        for k, (name, text) in enumerate(mutants(seed, count)):
            path.write_text(text, errors="surrogatepass")
            started = time.monotonic()
            job = {"path": str(path), "data": str(folder / "data"), "run": False}
            found = worker.ask(job, limit)
            slowest = max(slowest, time.monotonic() - started)
            if found["kind"] == "accepted" and ran < run:
                ran += 1
                found = worker.ask(job | {"run": True}, RUN_LIMIT)
                found = (
                    found
                    if found["kind"] != "hang"
                    else {"kind": "a long run", "text": ""}
                )
            if any(
                p.name == SENTINEL
                for p in (folder / SENTINEL, Path.cwd() / SENTINEL)
                if p.exists()
            ):
                found = {"kind": "command", "text": text}
                (Path.cwd() / SENTINEL).unlink(missing_ok=True)
            counts[found["kind"]] = counts.get(found["kind"], 0) + 1
            if found["kind"] in ("traceback", "hang", "command"):
                failures.append({"case": name, "number": k, **found})
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{k}-{found['kind']}.toml").write_text(
                        text, errors="surrogatepass"
                    )
    worker.end()
    return {
        "seed": seed,
        "mutants": count,
        "counts": counts,
        "slowest_seconds": round(slowest, 2),
        "failures": failures,
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--mutants", type=int, default=2000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--run", type=int, default=60, help="accepted mutants that are run too"
    )
    p.add_argument("--keep", type=Path, help="folder for the mutants that failed")
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.worker:
        work()
        return
    found = fuzz(options.seed, options.mutants, options.run, keep=options.keep)
    for failure in found["failures"]:
        print(
            f"{failure['kind']}: {failure['case']} {failure['number']}\n{failure['text']}\n"
        )
    print(json.dumps({k: v for k, v in found.items() if k != "failures"}, indent=1))
    sys.exit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
