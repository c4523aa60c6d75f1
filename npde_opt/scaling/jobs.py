"""A study's runs for batch systems: job arrays to submit by hand, or tests of ReFrame.

Every job starts `python -m npde_opt.scaling.launch OUT NAME LAUNCHER`, and the study's own command
collects what is there, whenever it is called again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from npde_opt.errors import InputError
from npde_opt.scaling.launch import Place, StudyError
from npde_opt.scaling.plan import Run

ARRAYS = {"slurm": "sbatch", "pbs": "qsub"}
SITE = {"slurm": "srun -n {ranks}", "pbs": "mpirun -n {ranks}"}
"""Launchers inside jobs, where none is given."""

SLURM = """#!/bin/bash
#SBATCH --job-name=scaling-{ranks}
#SBATCH --ntasks={ranks}
#SBATCH --array=0-{last}
#SBATCH --output={out}/job-%A-%a.txt
"""
PBS = """#!/bin/bash
#PBS -N scaling-{ranks}
#PBS -l select={ranks}:ncpus=1:mpiprocs=1
#PBS -j oe
#PBS -o {out}
"""
BODY = """names=({names})
exec {python} -m npde_opt.scaling.launch {out} "${{names[${{{index}:-0}}]}}" {launcher}
"""

REFRAME_TEST = '''"""The runs of a scaling study, as tests of ReFrame."""

import reframe as rfm
import reframe.utility.sanity as sn
from reframe.core.backends import getlauncher
from reframe.core.builtins import parameter, run_before, sanity_function

RUNS = {runs!r}


@rfm.simple_test
class ScalingRun(rfm.RunOnlyRegressionTest):
    run_name = parameter(sorted(RUNS))
    valid_systems = ["*"]
    valid_prog_environs = ["*"]

    @run_before("run")
    def start(self):
        self.num_tasks = RUNS[self.run_name]
        self.job.num_tasks = self.num_tasks
        words = self.job.launcher.run_command(self.job)
        self.job.launcher = getlauncher("local")()
        self.executable = {python!r}
        self.executable_opts = ["-m", "npde_opt.scaling.launch", {out!r}]
        self.executable_opts += [self.run_name, repr(words)]

    @sanity_function
    def done(self):
        return sn.path_exists({out!r} + "/runs/" + self.run_name + "/cost.json")
'''
REFRAME_SITE = """site_configuration = {
    "systems": [
        {
            "name": "here",
            "hostnames": [".*"],
            "partitions": [
                {
                    "name": "all",
                    "scheduler": "local",
                    "launcher": "mpirun",
                    "environs": ["builtin"],
                    "max_jobs": 1,
                }
            ],
        }
    ],
    "environments": [{"name": "builtin"}],
}
"""
REFRAME_SETTINGS = ("RFM_CONFIG_FILES", "RFM_CONFIG_FILE")


def left(place: Place) -> list[Run]:
    """Runs that are not done."""
    runs = {run.name: run for run in place.plan.runs()}
    return [run for run in runs.values() if not place.done(run)]


def write_arrays(place: Place, system: str) -> list[str]:
    """Scripts of job arrays, one for each number of ranks; the commands that submit them."""
    folder = place.out / "jobs"
    folder.mkdir(exist_ok=True)
    commands = []
    by_ranks: dict[int, list[str]] = {}
    for run in left(place):
        by_ranks.setdefault(run.ranks, []).append(run.name)
    for ranks, names in by_ranks.items():
        script = folder / f"{system}-{ranks}.sh"
        script.write_text(_array(place, system, ranks, names))
        # PBS takes no array of one.
        several = (
            f" -J 0-{len(names) - 1}" if system == "pbs" and len(names) > 1 else ""
        )
        commands.append(f"{ARRAYS[system]}{several} {script}")
    return commands


def _array(place: Place, system: str, ranks: int, names: list[str]) -> str:
    slurm = system == "slurm"
    head = (SLURM if slurm else PBS).format(
        ranks=ranks, last=len(names) - 1, out=place.out
    )
    return head + BODY.format(
        names=" ".join(names),
        python=shlex.quote(sys.executable),
        out=shlex.quote(str(place.out)),
        index="SLURM_ARRAY_TASK_ID" if slurm else "PBS_ARRAY_INDEX",
        launcher=shlex.quote(place.launcher),
    )


def run_reframe(place: Place) -> None:
    """Starts the runs by ReFrame and waits for them; a site's own settings count where they are.

    Raises:
        InputError: without ReFrame. StudyError: where it fails.
    """
    program = Path(sys.executable).parent / "reframe"
    found = str(program) if program.exists() else shutil.which("reframe")
    if found is None:
        raise InputError(
            "--by", "reframe", "pip install 'npde_opt[scaling]' (reframe-hpc)"
        )
    runs = {run.name: run.ranks for run in left(place)}
    if not runs:
        return
    folder = place.out / "jobs"
    folder.mkdir(exist_ok=True)
    test, site = folder / "study_runs.py", folder / "reframe_site.py"
    test.write_text(
        REFRAME_TEST.format(runs=runs, python=sys.executable, out=str(place.out))
    )
    site.write_text(REFRAME_SITE)
    given = any(os.environ.get(name) for name in REFRAME_SETTINGS)
    settings = [] if given else ["-C", str(site)]
    words = [
        found,
        *settings,
        "-c",
        str(test),
        "-r",
        "--prefix",
        str(folder / "reframe"),
    ]
    if subprocess.run(words, env=dict(os.environ), check=False).returncode:
        raise StudyError(
            "ReFrame ended with an error; what is done stays, the rest follows again"
        )
