"""Runs of a study are started one after the other, each in its own folder.

    OUT/study.json         what was asked
    OUT/machine-rP.json    rates of P ranks, see machine.py
    OUT/runs/NAME/out      the driver's folder; cost.json, output.txt, log.csv, log.flame beside it

A run is done when its cost.json is there, which is written last: a study that was cut off goes on
with the same command.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from npde_opt.aliases import Record
from npde_opt.errors import InputError, NpdeError
from npde_opt.io.files import whole_file
from npde_opt.scaling import logs
from npde_opt.scaling.plan import Plan, Run

STUDY, COST, OUTPUT, FOLDER = "study.json", "cost.json", "output.txt", "out"
MPIRUN = "mpirun -n {ranks}"
ENERGY = Path("/sys/class/powercap")
WRONG_INPUT = InputError.exit_code


class StudyError(NpdeError):
    """A run of the study failed, so that nothing can be said of it."""


@dataclass(frozen=True)
class Place:
    """A study's folder and how its runs are started.

    Attributes:
        launcher: a command with {ranks} in it, "mpirun -n {ranks}" or a site's own.
    """

    out: Path
    plan: Plan
    launcher: str = MPIRUN

    def folder(self, run: Run) -> Path:
        """Of one run."""
        return self.out / "runs" / run.name

    def rates(self, ranks: int) -> Path:
        """The file with the machine's rates for so many ranks."""
        return self.out / f"machine-r{ranks}.json"

    def done(self, run: Run) -> bool:
        """Whether it came to its end, good or bad."""
        return (self.folder(run) / COST).exists()

    def started(self, ranks: int) -> list[str]:
        """The launcher's words for so many ranks.

        Raises:
            InputError: where the launcher is not there.
        """
        words = shlex.split(self.launcher.replace("{ranks}", str(ranks)))
        if shutil.which(words[0]) is None:
            raise InputError("--launcher", words[0], "a program that is installed")
        return words

    def command(self, run: Run) -> list[str]:
        """The driver's whole command without the launcher."""
        own = self.folder(run)
        script, *given = self.plan.command
        asked = ["--out", str(own / FOLDER), "--overwrite", *run.options()]
        return [sys.executable, script, *given, *asked, *logs.options(own)]


def opened(
    out: Path, plan: Plan, launcher: str, overwrite: bool, here: bool = True
) -> Place:
    """The study's folder: a new one, or one with a study of the same plan, which goes on.

    Args:
        here: the runs start from this process, so that the launcher has to be there.

    Raises:
        InputError: for a folder with another study or with something else.
    """
    plan.check()
    if "{ranks}" not in launcher:
        raise InputError("--launcher", launcher, f"with {{ranks}}, as in {MPIRUN!r}")
    place = Place(out.resolve(), plan, launcher)
    record = place.out / STUDY
    if overwrite and record.exists():
        shutil.rmtree(place.out)
    if record.exists():
        if Plan.of(json.loads(record.read_text())) != plan:
            raise InputError("--out", out, "a folder of the same study, or --overwrite")
        return place
    if place.out.exists() and any(place.out.iterdir()):
        raise InputError("--out", out, "a new or an empty folder")
    place.out.mkdir(parents=True, exist_ok=True)
    _write(record, plan.text())
    return place


def known(out: Path, launcher: str) -> Place:
    """A study that was begun."""
    plan = Plan.of(json.loads((out / STUDY).read_text()))
    return Place(out.resolve(), plan, launcher)


def measure(place: Place, ranks: int) -> None:
    """Rates of the machine for so many ranks, where they are not there yet."""
    target = place.rates(ranks)
    if target.exists():
        return
    words = [sys.executable, "-m", "npde_opt.scaling.machine", str(target)]
    found = _call([*place.started(ranks), *words])
    if found.returncode:
        raise StudyError(f"the machine's rates on {ranks} ranks: {_last(found.stdout)}")


def work(place: Place, say: Callable[[str], None]) -> None:
    """Starts every run that is not done.

    Raises:
        StudyError: where the driver refused its input, which it would do in every other run.
    """
    runs = {run.name: run for run in place.plan.runs()}
    for number, run in enumerate(runs.values(), 1):
        if place.done(run):
            continue
        say(f"{number} of {len(runs)}: {run.name}")
        cost = one(place, run)
        if cost["code"] == WRONG_INPUT:
            (place.folder(run) / COST).unlink()
            raise StudyError(f"{run.name}: {cost['said']}")
        if cost["code"]:
            say(f"    failed with code {cost['code']}: {cost['said']}")


def one(place: Place, run: Run) -> Record:
    """Starts one run and leaves its cost.json."""
    own = place.folder(run)
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    measure(place, run.ranks)
    joules, start = _joules(), time.perf_counter()
    found = _call([*place.started(run.ranks), *place.command(run)], place.plan.where)
    seconds, after = time.perf_counter() - start, _joules()
    (own / OUTPUT).write_text(found.stdout)
    cost: Record = {
        "code": found.returncode,
        "wall": seconds,
        "joules": None if joules is None or after is None else after - joules,
        "said": _last(found.stdout) if found.returncode else "",
    }
    _write(own / COST, json.dumps(cost, indent=2) + "\n")
    return cost


def _call(
    words: Sequence[str], where: str | None = None
) -> subprocess.CompletedProcess[str]:
    # With the environment that this process began with: a started MPI leaves its marks in the
    # real one, which stop every mpirun.
    return subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        cwd=where,
    )


def _last(text: str) -> str:
    """The line of the error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" -")]
    told = [line for line in lines if line.startswith("error:")]
    return (told or lines or ["nothing was said"])[-1]


def _joules() -> float | None:
    """Of all processors since they were started, where this machine tells it."""
    try:
        counters = [p / "energy_uj" for p in ENERGY.glob("intel-rapl:[0-9]")]
        read = [float(c.read_text()) for c in counters]
    except (OSError, ValueError):
        return None
    return 1e-6 * sum(read) if read else None


def main() -> None:
    """One run of a study, as jobs of batch systems start it: OUT NAME LAUNCHER."""
    out, name, launcher = sys.argv[1:]
    place = known(Path(out), launcher)
    for run in place.plan.runs():
        if run.name == name and not place.done(run):
            sys.exit(one(place, run)["code"])


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
