"""Runs of a study are started one after the other, each in its own folder.

    OUT/study.json         what was asked
    OUT/machine-rP.json    rates of P ranks, see machine.py
    OUT/runs/NAME/out      the driver's folder; cost.json, output.txt, log.csv, log.flame beside it

A run is done when its cost.json is there and tells of no error; it is written last. The same
command goes on with a study that was cut off, and tries again what failed.
"""

from __future__ import annotations

import contextlib
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
from npde_opt.runs.lock import LOCK, RunLock
from npde_opt.scaling import logs
from npde_opt.scaling.plan import Plan, Run

STUDY, COST, OUTPUT, FOLDER = "study.json", "cost.json", "output.txt", "out"
MPIRUN = "mpirun -n {ranks}"
ENERGY = Path("/sys/class/powercap")
WRONG_INPUT = InputError.exit_code
PATIENCE = 30.0
"""Seconds that a run has to end in."""


class StudyError(NpdeError):
    """A run of the study failed, so that nothing can be said of it."""


def started(launcher: str, ranks: int) -> list[str]:
    """The launcher's words for so many ranks.

    Raises:
        InputError: where the launcher is not there, or has a quotation that does not end.
    """
    try:
        words = shlex.split(launcher.replace("{ranks}", str(ranks)))
    except ValueError as error:
        allowed = f"the words of a command ({error})"
        raise InputError("--launcher", launcher, allowed) from error
    if shutil.which(words[0]) is None:
        raise InputError("--launcher", words[0], "a program that is installed")
    return words


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
        """Whether it came to a good end."""
        cost = self.cost(run)
        return cost is not None and cost["code"] == 0

    def cost(self, run: Run) -> Record | None:
        """What it cost, None where it came to no end."""
        path = self.folder(run) / COST
        return json.loads(path.read_text()) if path.exists() else None

    def command(self, run: Run) -> list[str]:
        """The driver's whole command without the launcher."""
        own = self.folder(run)
        script, *given = self.plan.command
        asked = ["--out", str(own / FOLDER), "--overwrite", *run.options()]
        return [sys.executable, script, *given, *asked, *logs.options(own)]


def opened(out: Path, plan: Plan, launcher: str, overwrite: bool) -> Place:
    """The study's folder: a new one, or one with a study of the same plan or of a part of it, which
    goes on. What came to no good end in any run, as a command that the driver refused, makes room.

    Args:
        out: a folder whose lock this process has.

    Raises:
        InputError: for a folder with another study or with something else.
    """
    place = Place(out.resolve(), plan, launcher)
    record = place.out / STUDY
    if record.exists() and (overwrite or _is_vain(Place(place.out, begun(out), ""))):
        _emptied(place.out)
    if not record.exists() and any(p.name != LOCK for p in place.out.iterdir()):
        raise InputError("--out", out, "a new or an empty folder")
    if record.exists() and not plan.goes_on_with(begun(place.out)):
        allowed = "a folder of the same study or of some of its runs, or --overwrite"
        raise InputError("--out", out, allowed)
    _write(record, plan.text())
    return place


def _is_vain(place: Place) -> bool:
    """Whether runs ended, and none of them well."""
    costs = [place.cost(run) for run in place.plan.runs()]
    ended = [cost for cost in costs if cost is not None]
    return bool(ended) and all(cost["code"] for cost in ended)


def begun(out: Path) -> Plan:
    """The plan of a study's folder.

    Raises:
        InputError: where study.json is damaged.
    """
    record = out / STUDY
    try:
        return Plan.of(json.loads(record.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(record), repr(error), "what a study wrote") from error


def _emptied(folder: Path) -> None:
    """All but the lock goes."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def measure(place: Place, ranks: int) -> None:
    """Rates of the machine for so many ranks, where they are not there yet."""
    target = place.rates(ranks)
    if target.exists():
        return
    words = [sys.executable, "-m", "npde_opt.scaling.machine", str(target)]
    found = _call([*started(place.launcher, ranks), *words])
    if found.returncode:
        raise StudyError(f"the machine's rates on {ranks} ranks: {_last(found.stdout)}")


def work(place: Place, say: Callable[[str], None]) -> None:
    """Starts every run that is not done.

    Raises:
        StudyError: where the driver refused its input in the first run, as it would in all others.
    """
    runs = {run.name: run for run in place.plan.runs()}
    for number, run in enumerate(runs.values(), 1):
        if place.done(run):
            continue
        say(f"{number} of {len(runs)}: {run.name}")
        cost = one(place, run)
        if cost["code"] == WRONG_INPUT and number == 1:
            raise StudyError(f"{run.name}: {cost['said']}")
        if cost["code"]:
            say(f"    failed with code {cost['code']}: {cost['said']}")


def one(place: Place, run: Run) -> Record:
    """Starts one run and leaves its cost.json.

    Raises:
        InputError: where another job is at it, or a driver that outlived its study.
    """
    own = place.folder(run)
    own.mkdir(parents=True, exist_ok=True)
    lock = RunLock(own, run.ranks)
    try:
        if (own / FOLDER / LOCK).exists():
            RunLock(own / FOLDER).release()
        _emptied(own)
        return _costing(place, run, own)
    finally:
        lock.release()


def _costing(place: Place, run: Run, own: Path) -> Record:
    measure(place, run.ranks)
    before, start = _joules(), time.perf_counter()
    found = _call(
        [*started(place.launcher, run.ranks), *place.command(run)], place.plan.where
    )
    seconds = time.perf_counter() - start
    (own / OUTPUT).write_text(found.stdout)
    cost: Record = {
        "code": found.returncode,
        "wall": seconds,
        "joules": _since(before, _joules()),
        "said": _last(found.stdout) if found.returncode else "",
    }
    _write(own / COST, json.dumps(cost, indent=2) + "\n")
    return cost


def _call(
    words: Sequence[str], where: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs it; where this process is stopped, so is what it started."""
    # With the environment that this process began with: a started MPI leaves its marks in the
    # real one, which stop every mpirun.
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        cwd=where,
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            _end(process)
            raise
    return subprocess.CompletedProcess(words, process.returncode, said)


def _end(process: subprocess.Popen[str]) -> None:
    """As batch systems do: a signal that runs end well by, later one that ends all."""
    process.terminate()
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _last(text: str) -> str:
    """The line of the error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" -")]
    told = [line for line in lines if line.startswith("error:")]
    return (told or lines or ["nothing was said"])[-1]


def _joules() -> dict[Path, float]:
    """Of each processor since its counter began, where this machine tells it."""
    found = {}
    for counter in ENERGY.glob("intel-rapl:[0-9]"):
        with contextlib.suppress(OSError, ValueError):
            found[counter] = 1e-6 * float((counter / "energy_uj").read_text())
    return found


def _since(before: dict[Path, float], after: dict[Path, float]) -> float | None:
    """What was used; a counter that began again has its range added."""
    used = []
    for counter, start in before.items():
        if counter not in after:
            continue
        end = after[counter]
        if end < start:
            end += 1e-6 * float((counter / "max_energy_range_uj").read_text())
        used.append(end - start)
    return sum(used) if used else None


def main() -> None:
    """One run of a study, as jobs of batch systems start it: OUT NAME LAUNCHER."""
    out, name, launcher = sys.argv[1:]
    place = Place(Path(out).resolve(), begun(Path(out)), launcher)
    for run in place.plan.runs():
        if run.name == name and not place.done(run):
            sys.exit(one(place, run)["code"])


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
