"""Runs of the driver that are killed, signalled, or robbed of their disk at random moments, then
resumed: a part of trials.py.

    python benchmarks/disturbed.py --trials 200 --seed 0 [--kinds kill signal disk folder]
        [--ranks 1 2]

After every trial the run is resumed, and must reach what the uninterrupted run reached: the
objective to the last bit on one rank (to 1e-10 on two, where MPI's memory is not aligned alike),
the same counts of solves, every row of the history once. Prints the counts and lists every failure.
Trials with a small disk need root (they mount a tmpfs).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "drivers"))

from calling import command, environment, rows  # noqa: E402

LIMIT = 240
STEADY = """
[grid]
shape = [24, 24]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = { lognormal = { contrast = 20.0, seed = 0 } }
[[experiment]]
boundary = { "x+" = 1.0 }
[[experiment]]
boundary = { "x-" = 0.0 }
[[observation]]
random = 60
noise = 0.01
[[regularization]]
weight = WEIGHT
[optimizer]
method = "METHOD"
gradient_rtol = 1e-5
"""
EVOLUTION = """
[grid]
shape = [24]
[equation]
terms = [{ diffusion = "D" }, { kinetics = { u = "r*u*(1 - u)" } }]
known = { r = 1.0 }
[time]
scheme = "imex-euler"
times = { end = 1.0, steps = 20 }
[[unknown]]
name = "D"
initial = 0.02
truth = { expression = "0.01*exp(sin(6*x))" }
[[experiment]]
initial = { u = "exp(-40*(x - 0.5)**2)" }
[[observation]]
times = [0.5, 1.0]
noise = 0.01
[[regularization]]
weight = 0.1
[optimizer]
method = "gauss-newton"
gradient_rtol = 1e-6
"""
CASES = {
    "newton": STEADY.replace("WEIGHT", "1.0").replace("METHOD", "newton"),
    "lbfgs": STEADY.replace("WEIGHT", "1.0").replace("METHOD", "lbfgs"),
    "weight": STEADY.replace("WEIGHT", "'discrepancy'").replace(
        "METHOD", "gauss-newton"
    ),
    "evolution": EVOLUTION,
}
DISKS = ("4k", "16k", "64k", "128k", "200k", "1m")
COMPARED = ("iteration", "level", "objective")


@dataclass(frozen=True)
class Whole:
    """The uninterrupted run of a case."""

    case: Path
    ranks: int
    summary: dict[str, Any]
    rows: list[dict[str, str]]
    seconds: float


class Trials:
    """A folder with the cases, and their uninterrupted runs as they are needed."""

    def __init__(self, folder: Path, ranks: tuple[int, ...] = (1, 2)):
        self.folder, self.ranks, self.number = folder, ranks, 0
        self.known: dict[tuple[str, int], Whole] = {}
        # OpenBLAS' dot products depend on the alignment of arrays: alike in all processes where
        # each is mapped.
        self.environment = environment() | {
            "MALLOC_MMAP_THRESHOLD_": "512",
            "MALLOC_MMAP_MAX_": "60000",
        }
        for name, text in CASES.items():
            (folder / f"{name}.toml").write_text(text)

    def whole(self, name: str, ranks: int) -> Whole:
        if (name, ranks) not in self.known:
            case, out = (
                self.folder / f"{name}.toml",
                self.folder / f"whole-{name}-{ranks}",
            )
            start = time.monotonic()
            code, text = self.run(ranks, case, out)
            assert code == 0, text
            summary = json.loads((out / "summary.json").read_text())
            self.known[name, ranks] = Whole(
                case, ranks, summary, rows(out), time.monotonic() - start
            )
        return self.known[name, ranks]

    def out(self) -> Path:
        self.number += 1
        return self.folder / f"trial-{self.number}"

    def start(
        self, ranks: int, case: Path, out: Path, *options: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(ranks, case, out, *options),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, ranks: int, case: Path, out: Path, *options: str) -> tuple[int, str]:
        return ended(self.start(ranks, case, out, *options))

    def resume(self, whole: Whole, out: Path, torn: bool = False) -> None:
        """Resumes, and compares with the uninterrupted run. Where files were taken while the run
        wrote them, torn, its last checkpoint may be left without some: this is told by name, and
        the run starts again."""
        code, text = self.run(whole.ranks, whole.case, out, "--resume")
        if torn and code == 2 and "all damaged: checkpoint-" in text:
            assert str(out) in text and "--overwrite to start again" in text, text
            code, text = self.run(whole.ranks, whole.case, out, "--overwrite")
        assert code == 0, f"--resume ended with {code}: {text[-1500:]}"
        found = json.loads((out / "summary.json").read_text())
        assert found["status"] == whole.summary["status"], (
            found["status"],
            whole.summary["status"],
        )
        a, b = found["objective"], whole.summary["objective"]
        assert a == b if whole.ranks == 1 else abs(a - b) <= 1e-10 * abs(b), (
            f"objective {a!r}, uninterrupted {b!r}"
        )
        assert len(rows(out)) == len(whole.rows), (
            f"{len(rows(out))} rows, uninterrupted {len(whole.rows)}"
        )
        if whole.ranks == 1:
            mine, theirs = [
                [[r[k] for k in COMPARED] for r in table]
                for table in (rows(out), whole.rows)
            ]
            assert mine == theirs, "rows of the history differ"
            for key in ("finest_grid_solves", "total_solves"):
                counts = found["metrics"][key], whole.summary["metrics"][key]
                assert counts[0] == counts[1], (
                    f"{key}: {counts[0]}, uninterrupted {counts[1]}"
                )
        hidden = [
            p.name
            for p in out.iterdir()
            if p.name.startswith(".") and p.name != ".written"
        ]
        assert not hidden, f"left behind: {hidden}"


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and text; a run that does not end is a failure."""
    try:
        text = run.communicate(timeout=LIMIT)[0]
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise AssertionError(
            f"did not end in {LIMIT} s: {run.communicate()[0][-1500:]}"
        ) from None
    return run.returncode, text


def children(process: int) -> list[int]:
    """The ranks that a launcher started, through the system's own launcher perhaps."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
        found = [int(c) for c in text.split()]
        inner = [
            c for c in found if Path(f"/proc/{c}/comm").read_text().strip() == "mpirun"
        ]
    except OSError:
        return []
    return children(inner[0]) if inner else found


def kill(trials: Trials, draw: random.Random) -> str:
    """kill -9 of all processes, or of one rank, at any moment of a run."""
    whole = trials.whole(draw.choice(list(CASES)), draw.choice(trials.ranks))
    out, moment = trials.out(), draw.uniform(0, 1.05) * whole.seconds
    run = trials.start(whole.ranks, whole.case, out)
    time.sleep(moment)
    ranks = children(run.pid)
    if whole.ranks > 1 and ranks and draw.random() < 0.5:
        os.kill(ranks[0], signal.SIGKILL)
    elif run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
        for rank in ranks:
            end(rank)
    ended(run)
    trials.resume(whole, out)
    return f"{whole.case.stem} on {whole.ranks} after {moment:.2f} s"


def end(process: int) -> None:
    """mpirun gives its ranks process groups of their own."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def stop(trials: Trials, draw: random.Random) -> str:
    """SIGTERM or SIGUSR1 to one rank, or to all by mpirun, at any moment of a run."""
    whole = trials.whole(draw.choice(list(CASES)), draw.choice(trials.ranks))
    out, moment = trials.out(), draw.uniform(0, 1.05) * whole.seconds
    number = draw.choice((signal.SIGTERM, signal.SIGUSR1))
    run = trials.start(whole.ranks, whole.case, out)
    time.sleep(moment)
    ranks = children(run.pid)
    target = ranks[-1] if whole.ranks > 1 and ranks and draw.random() < 0.5 else run.pid
    if run.poll() is None:
        os.kill(target, number)
    code, text = ended(run)
    what = f"{whole.case.stem} on {whole.ranks}, {number.name} after {moment:.2f} s, exit {code}"
    # Before the first line of the driver the interpreter or the launcher ends by the signal itself.
    early = moment < 0.25 * whole.seconds and (code < 0 or code in (1, 128 + number))
    assert (
        code in (0, 75)
        or early
        or (whole.ranks > 1 and number == signal.SIGTERM and code in (1, 143, 137))
    ), f"{what}: {text[-1500:]}"
    trials.resume(whole, out)
    return what


def disk(trials: Trials, draw: random.Random) -> str:
    """A disk that is too small, or that another process fills in mid-run."""
    whole = trials.whole(draw.choice(list(CASES)), draw.choice(trials.ranks))
    with mounted(trials.out(), draw.choice(DISKS)) as (place, size):
        out, filled = place / "out", False
        run = trials.start(whole.ranks, whole.case, out)
        if size == DISKS[-1]:
            filled = fill(run, out, place / "other", draw)
        code, text = ended(run)
        disk = f"disk of {size}{' filled in mid-run' if filled else ''}"
        what = f"{whole.case.stem} on {whole.ranks}, {disk}, exit {code}"
        assert code in (0, 2), f"{what}: {text[-1500:]}"
        if code == 2:
            lines = [line for line in text.splitlines() if line.startswith("error")]
            assert (
                len(lines) == 1
                and str(place) in lines[0]
                and "No space left" in lines[0]
            ), f"{what}: {text[-1500:]}"
            half = [p.name for p in out.glob(".*.tmp*")] if out.exists() else []
            assert not half, f"{what}: left behind {half}"
        (place / "other").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=50m", str(place)], check=True)
        trials.resume(whole, out)
    return what


@contextmanager
def mounted(place: Path, size: str) -> Iterator[tuple[Path, str]]:
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True
    )
    try:
        yield place, size
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(
    run: subprocess.Popen[str], out: Path, other: Path, draw: random.Random
) -> bool:
    """Takes what is left of a disk once the run has some rows."""
    if not wait_for_rows(run, out, draw.randint(0, 4)):
        return False
    try:
        with open(other, "wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
    except OSError:
        return True


def wait_for_rows(run: subprocess.Popen[str], out: Path, count: int) -> bool:
    """Whether the run is still at work when its history has so many rows."""
    until = time.monotonic() + LIMIT
    while run.poll() is None and time.monotonic() < until:
        if out.exists() and len(rows(out)) >= count:
            return run.poll() is None
        time.sleep(0.005)
    return False


def folder(trials: Trials, draw: random.Random) -> str:
    """A folder that is removed, replaced or wanted by a second run while the first is at work."""
    whole = trials.whole(
        draw.choice(("newton", "lbfgs", "weight")), draw.choice(trials.ranks)
    )
    out, act = (
        trials.out(),
        draw.choice(
            (remove, replace_by_file, replace_by_folder, second, lose_checkpoints)
        ),
    )
    run = trials.start(whole.ranks, whole.case, out)
    acted = wait_for_rows(run, out, draw.randint(1, 4))
    expected = act(trials, whole, out) if acted else (0,)
    code, text = ended(run)
    how = act.__name__ if acted else "ended before"
    what = f"{whole.case.stem} on {whole.ranks}, {how}, exit {code}"
    assert code in expected, f"{what}: {text[-1500:]}"
    if code == 2:
        lines = [line for line in text.splitlines() if line.startswith("error")]
        assert len(lines) == 1 and str(out) in lines[0], f"{what}: {text[-1500:]}"
    if out.is_file():
        out.unlink()
    trials.resume(whole, out, torn=act in (remove, lose_checkpoints))
    return what


def remove(trials: Trials, whole: Whole, out: Path) -> tuple[int, ...]:
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    return 0, 2


def replace_by_file(trials: Trials, whole: Whole, out: Path) -> tuple[int, ...]:
    out.rename(out.with_suffix(".moved"))
    out.write_text("mine")
    return 0, 2


def replace_by_folder(trials: Trials, whole: Whole, out: Path) -> tuple[int, ...]:
    out.rename(out.with_suffix(".moved"))
    out.mkdir()
    return 0, 2


def second(trials: Trials, whole: Whole, out: Path) -> tuple[int, ...]:
    """A second --resume must end at once, and leave the first alone (unless that is done
    before)."""
    code, text = trials.run(whole.ranks, whole.case, out, "--resume")
    assert (code == 2 and "is at work" in text) or (code == 0 and "finished" in text), (
        f"second run, exit {code}: {text[-800:]}"
    )
    return (0,)


def lose_checkpoints(trials: Trials, whole: Whole, out: Path) -> tuple[int, ...]:
    for checkpoint in out.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    return 0, 2


KINDS: dict[str, Callable[[Trials, random.Random], str]] = {
    "kill": kill,
    "signal": stop,
    "disk": disk,
    "folder": folder,
}


def run_trials(
    count: int,
    seed: int,
    kinds: list[str],
    place: Path,
    ranks: tuple[int, ...] = (1, 2),
) -> tuple[Counter[str], list[str]]:
    """So many trials, the kinds in turn; how many of each went well, and what did not."""
    trials, good, failures = Trials(place, ranks), Counter[str](), list[str]()
    for n in range(count):
        kind = kinds[n % len(kinds)]
        try:
            what = KINDS[kind](trials, random.Random(f"{seed} {n}"))
            good[kind] += 1
            print(f"{n:4d} {kind:7s} good: {what}", flush=True)
        except AssertionError as error:
            failures.append(f"{n} {kind} (seed {seed}): {error}")
            print(f"{n:4d} {kind:7s} FAILED: {error}", flush=True)
    return good, failures


def checks(count: int = 100, seed: int = 0) -> Iterator[tuple[str, Callable[[], str]]]:
    """Names of trials, and what runs each and says what is wrong (nothing where it is right)."""
    kinds = [k for k in KINDS if k != "disk" or os.geteuid() == 0]
    with tempfile.TemporaryDirectory() as place:
        trials = Trials(Path(place))
        for n in range(count):
            yield (
                f"{kinds[n % len(kinds)]}, seed '{seed} {n}'",
                partial(checked, trials, kinds[n % len(kinds)], f"{seed} {n}"),
            )


def checked(trials: Trials, kind: str, seed: str) -> str:
    try:
        KINDS[kind](trials, random.Random(seed))
    except AssertionError as error:
        return str(error)
    return ""


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--trials", type=int, default=200)
    p.add_argument("--seed", type=int, default=0, help="of the moments and cases")
    p.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    p.add_argument(
        "--ranks",
        type=int,
        nargs="+",
        default=[1, 2],
        help="numbers of ranks, drawn for each trial",
    )
    options = p.parse_args()
    kinds = [k for k in options.kinds if k != "disk" or os.geteuid() == 0]
    with tempfile.TemporaryDirectory() as place:
        good, failures = run_trials(
            options.trials, options.seed, kinds, Path(place), tuple(options.ranks)
        )
    print(
        f"\n{sum(good.values())} of {options.trials} trials as they should be: "
        + ", ".join(f"{k} {n}" for k, n in sorted(good.items()))
    )
    print("\n".join(["failures:", *failures] if failures else ["no failure"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
