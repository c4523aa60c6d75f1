"""The command line of drivers/scaling_study.py."""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from npde_opt.errors import InputError, NpdeError
from npde_opt.runs.lock import RunLock
from npde_opt.scaling import jobs, launch
from npde_opt.scaling.plan import KINDS, Plan
from npde_opt.scaling.predict import Network, check_asked, nodes
from npde_opt.scaling.report import Asked, report
from npde_opt.signals import BATCH

WAYS = ("mpirun", "reframe", "slurm", "pbs", "none")
STARTED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where launchers say of how many processes this is one."""


def parser(about: str | None) -> argparse.ArgumentParser:
    """The study's options; the driver's command follows after --."""
    p = argparse.ArgumentParser(
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s --out OUT --ranks N [N ...] [options] -- DRIVER [its options]",
        allow_abbrev=False,
    )
    p.add_argument("--out", type=Path, required=True, help="folder of the study")
    p.add_argument("--overwrite", action="store_true", help="begin anew in --out")
    p.add_argument("--ranks", type=int, nargs="+", required=True, help="of the runs")
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=["strong"])
    p.add_argument(
        "--grid",
        type=int,
        nargs="+",
        action="append",
        default=[],
        metavar="N",
        help="cells along each axis; again: one more grid. Weak: on the fewest ranks",
    )
    p.add_argument(
        "--groups", type=int, nargs="+", default=[1], help="of experiments; default: 1"
    )
    p.add_argument("--repeats", type=int, default=1, help="of every run")
    p.add_argument(
        "--by",
        choices=WAYS,
        default="mpirun",
        help="what starts the runs: mpirun (one after the other, default), reframe, job arrays "
        "to submit by hand (slurm, pbs), or nothing: what is there is collected",
    )
    p.add_argument(
        "--launcher",
        help="with {ranks} in it, of the runs or inside of jobs; default: "
        "'mpirun -n {ranks}', with slurm 'srun -n {ranks}'",
    )
    p.add_argument("--no-figures", action="store_true", help="no figures and no page")
    told = p.add_argument_group("prediction")
    told.add_argument("--predict", metavar="NODESxRANKS", help="the largest machine")
    told.add_argument("--load", type=float, help="unknowns a rank of the weak curve")
    told.add_argument("--predict-groups", type=int, default=1, metavar="G")
    told.add_argument("--latency", type=float, help="seconds of a message there")
    told.add_argument("--link", type=float, help="bytes/s of a rank's messages there")
    told.add_argument(
        "--bandwidth", type=float, help="bytes/s of a rank's memory there"
    )
    return p


def study(about: str | None, words: Sequence[str]) -> int:
    """Runs, collects and reports; the exit code."""
    options = parser(about)
    own, _, command = _split(words)
    given = options.parse_args(own)
    before = {number: signal.signal(number, _interrupt) for number in BATCH}
    try:
        return _study(given, command)
    except NpdeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 75
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    """What ends a run, by batch systems and terminals that close, is Ctrl-C to a study."""
    raise KeyboardInterrupt


def _split(words: Sequence[str]) -> tuple[list[str], str, list[str]]:
    if "--" not in words:
        return list(words), "", []
    place = list(words).index("--")
    return list(words[:place]), "--", list(words[place + 1 :])


def _study(given: argparse.Namespace, command: Sequence[str]) -> int:
    _check_alone()
    plan = Plan(
        tuple(command),
        tuple(given.kinds),
        tuple(given.ranks),
        tuple(given.groups),
        tuple(tuple(g) for g in given.grid),
        given.repeats,
        os.getcwd(),
    )
    asked = _asked(given)
    launcher = _launcher(given)
    plan.check(here=given.by == "mpirun")
    if given.by == "none" and not (given.out / launch.STUDY).exists():
        raise InputError("--out", given.out, "the folder of a study, with --by none")
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        allowed = f"a folder that can be made ({error.strerror})"
        raise InputError("--out", given.out, allowed) from error
    lock = RunLock(given.out)
    try:
        place = launch.opened(given.out, plan, launcher, given.overwrite)
        if given.by == "mpirun":
            launch.work(place, say)
        elif given.by == "reframe":
            jobs.run_reframe(place)
        elif given.by != "none":
            for line in jobs.write_arrays(place, given.by):
                say(f"submit: {line}")
            say("when they have run, --by none collects what they left")
        found = report(place, asked, not given.no_figures, say)
    finally:
        lock.release()
    return 0 if found or given.by in jobs.ARRAYS else 1


def _check_alone() -> None:
    """Raises InputError in one of several processes, each of which would do the whole study."""
    for name in STARTED:
        there = os.environ.get(name, "")
        if there.isdigit() and int(there) > 1:
            allowed = "one process without a launcher: a study starts its runs itself"
            raise InputError("scaling_study.py", f"{name}={there}", allowed)


def _launcher(given: argparse.Namespace) -> str:
    """Raises InputError for one that cannot be."""
    if given.by == "reframe" and given.launcher is not None:
        raise InputError(
            "--launcher", given.launcher, "none with reframe, which has its own"
        )
    if given.by in ("reframe", *jobs.ARRAYS) and re.search(
        r"\s", str(given.out.resolve())
    ):
        raise InputError("--out", given.out, "a path without blanks, for batch systems")
    launcher: str = given.launcher or jobs.SITE.get(given.by, launch.MPIRUN)
    if "{ranks}" not in launcher:
        raise InputError(
            "--launcher", launcher, f"with {{ranks}}, as in {launch.MPIRUN!r}"
        )
    if given.by == "mpirun":
        launch.started(launcher, min(given.ranks))
    return launcher


def _asked(given: argparse.Namespace) -> Asked:
    network = Network(given.latency, given.link, given.bandwidth)
    network.check()
    if given.load is not None and not 1 <= given.load < math.inf:
        raise InputError("--load", given.load, "a number of unknowns, at least 1")
    if given.predict_groups < 1:
        raise InputError("--predict-groups", given.predict_groups, "at least 1")
    ranks = None
    if given.predict is not None:
        ranks = nodes(given.predict)
        check_asked(ranks, given.predict_groups, given.ranks)
    return Asked(ranks, network, given.load, given.predict_groups)


def say(line: str) -> None:
    """To the terminal, at once."""
    print(line, flush=True)
