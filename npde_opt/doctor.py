"""What is installed, what is wrong with it and what to do about it: `python -m npde_opt doctor`.

MPI and PETSc are asked in processes of their own, each with a time limit, so that one which aborts
or hangs becomes a line of the report instead of its end.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from npde_opt.aliases import Plain

SETUP = "run `make setup` in the checkout and start from its environment: source .venv/bin/activate"
REQUIRED = {
    "scipy": "linear algebra",
    "pyamg": "the recipe pyamg",
    "msgspec": "the format of cases",
    "numba": "compiled reactions and fused explicit steps",
    "checkpoint_schedules": "checkpointed adjoint sweeps",
    "rich": "progress",
}
OPTIONAL = {
    "matplotlib": "figures (--plot)",
    "PIL": "images as data",
    "nibabel": "brain images",
    "nilearn": "brain templates",
    "sklearn": "digits to train on",
    "statsmodels": "sunspots to train on",
    "aeon": "sequences to train on",
}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "checkpoint_schedules": "checkpoint-schedules",
    "sklearn": "scikit-learn",
}
PACKAGES = ["hypre", "ml", "mumps", "superlu_dist"]

ASK_MPI = """
import json, mpi4py
from mpi4py import MPI
library = MPI.Get_library_version().strip("\\0\\n ")
print("ANSWER" + json.dumps({"mpi4py": mpi4py.__version__, "library": library}))
"""
ASK_PETSC = f"""
import json, petsc4py
from petsc4py import PETSc
config = petsc4py.get_config()
print("ANSWER" + json.dumps({{
    "petsc4py": petsc4py.__version__,
    "version": ".".join(map(str, PETSc.Sys.getVersion())),
    "scalar": PETSc.ScalarType().dtype.name,
    "index": PETSc.IntType().dtype.itemsize * 8,
    "dir": config["PETSC_DIR"],
    "arch": config["PETSC_ARCH"],
    "packages": [name for name in {PACKAGES} if PETSc.Sys.hasExternalPackage(name)],
}}))
"""
ASK_RANKS = """
from mpi4py import MPI
from petsc4py import PETSc
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
vector = PETSc.Vec().createMPI(2 * world.size)
vector.set(1.0)
length = vector.sum()
if world.rank == 0:
    print("ANSWER" + str([world.size, PETSc.COMM_WORLD.getSize(), total, int(length.real)]))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report; a remedy says that something is wrong, `essential` that nothing runs
    without it."""

    subject: str
    text: str
    remedy: str = ""
    essential: bool = True

    @property
    def mark(self) -> str:
        if not self.remedy:
            return "ok"
        return "WRONG" if self.essential else "note"


def ask(command: list[str], seconds: float = 60.0) -> tuple[Plain, str]:
    """What a probe answers (None where it does not) and what else it said."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {seconds:.0f} s"
    except OSError as error:
        return None, str(error)
    for line in done.stdout.splitlines():
        if line.startswith("ANSWER"):
            return json.loads(line[len("ANSWER") :]), ""
    if "ALLOW_RUN_AS_ROOT" in done.stderr:
        return (
            None,
            "Open MPI refuses to start as root (OMPI_ALLOW_RUN_AS_ROOT is not set)",
        )
    said = [
        line
        for line in (done.stderr + done.stdout).splitlines()
        if re.search(r"\w", line)
    ]
    return None, said[-1].strip() if said else f"exit code {done.returncode}"


def python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    remedy = (
        ""
        if sys.version_info[:2] >= (3, 11)
        else "install Python 3.11 or newer, then `make setup`"
    )
    return Finding("Python", found, remedy)


def mpi() -> Finding:
    answer, said = ask([sys.executable, "-c", ASK_MPI])
    if answer is None:
        return Finding("MPI", said, SETUP)
    library = answer["library"].splitlines()[0].split(", package")[0]
    mpirun = shutil.which("mpirun") or "not on the path"
    return Finding("MPI", f"{library}; mpi4py {answer['mpi4py']}; mpirun: {mpirun}")


def petsc() -> list[Finding]:
    answer, said = ask([sys.executable, "-c", ASK_PETSC])
    if answer is None:
        return [Finding("PETSc", said, SETUP)]
    root = Path(answer["dir"], answer["arch"])
    conf = root / "lib" / "petsc" / "conf" / "petscvariables"
    header = root / "include" / "petscconf.h"
    variables = conf.read_text() if conf.is_file() else ""
    debugging = header.is_file() and bool(
        re.search(r"#define\s+PETSC_USE_DEBUG\b", header.read_text())
    )
    blas = re.search(r"^BLASLAPACK_LIB\s*=\s*(.*?)\s*$", variables, re.MULTILINE)
    solvers = [name for name in ("mumps", "superlu_dist") if name in answer["packages"]]
    multigrid = [
        "PCMG",
        "GAMG",
        *(name for name in ("hypre", "ml") if name in answer["packages"]),
    ]
    multigrid += ["pyamg"] if importlib.util.find_spec("pyamg") else []
    scalars = (
        ""
        if answer["scalar"] == "float64"
        else "set PETSC_DIR and PETSC_ARCH to a PETSc with real doubles"
    )
    optimised = "set PETSC_DIR to an optimised PETSc (--with-debugging=0)"
    slow = f"{optimised}: this one is several times slower"
    old = (
        ""
        if answer["version"].startswith("3.26.")
        else "npde_opt is tested with PETSc 3.26"
    )
    return [
        Finding(
            "PETSc",
            f"{answer['version']} in {root}; petsc4py {answer['petsc4py']}",
            old,
            essential=False,
        ),
        Finding(
            "scalars", f"{answer['scalar']}, {answer['index']}-bit indices", scalars
        ),
        Finding(
            "build",
            "debugging" if debugging else "optimised",
            slow if debugging else "",
            essential=False,
        ),
        Finding("BLAS", blas.group(1) if blas else "unknown"),
        Finding("multigrid", ", ".join(multigrid)),
        Finding("direct", ", ".join(["PETSc LU and Cholesky (one rank)", *solvers])),
    ]


def ranks(count: int = 2) -> Finding:
    mpirun = shutil.which("mpirun")
    if not mpirun:
        return Finding(
            "ranks",
            "mpirun is not on the path",
            "apt-get install openmpi-bin, or load your MPI module",
        )
    answer, said = ask([mpirun, "-n", str(count), sys.executable, "-c", ASK_RANKS])
    if answer == [count, count, count * (count + 1) // 2, 2 * count]:
        return Finding("ranks", f"{count} start and agree")
    if answer is None:
        remedy = (
            "source .venv/bin/activate (it sets what root and few cores need), then try "
            "mpirun -n 2 hostname"
        )
        return Finding("ranks", f"{count} ranks do not start: {said}", remedy)
    remedy = (
        f"{mpirun} belongs to another MPI than mpi4py and PETSc: use that MPI's mpirun, or "
        "`make clean setup`"
    )
    return Finding(
        "ranks",
        f"asked for {count}, MPI has {answer[0]}, PETSc has {answer[1]}",
        remedy,
    )


def packages() -> list[Finding]:
    findings = []
    for module, purpose in {**REQUIRED, **OPTIONAL}.items():
        name = DISTRIBUTIONS.get(module, module)
        if importlib.util.find_spec(module):
            findings.append(Finding(name, importlib.metadata.version(name)))
        else:
            remedy = SETUP if module in REQUIRED else f"pip install {name}"
            findings.append(
                Finding(
                    name,
                    f"not installed: no {purpose}",
                    remedy,
                    essential=module in REQUIRED,
                )
            )
    return findings


def machine() -> Finding:
    cores = len(os.sched_getaffinity(0))
    if not importlib.util.find_spec("numpy"):
        return Finding("machine", f"{cores} cores")
    import numpy as np

    source = np.ones(8_000_000)
    target = np.zeros_like(source)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    rate = 2 * source.nbytes / min(seconds) / 1e9
    return Finding(
        "machine", f"{cores} cores; memory {rate:.0f} GB/s from one of them (copy)"
    )


def main(argv: list[str]) -> int:
    if argv:
        print("usage: python -m npde_opt doctor", file=sys.stderr)
        return 2
    wrong = 0
    for probe in (python, mpi, petsc, ranks, machine, packages):
        found = probe()
        for finding in found if isinstance(found, list) else [found]:
            print(f"{finding.mark:<6}{finding.subject:<22}{finding.text}", flush=True)
            if finding.remedy:
                print(f"{'':<28}-> {finding.remedy}")
            wrong += bool(finding.remedy and finding.essential)
    print(f"wrong and essential: {wrong}" if wrong else "all that is needed works")
    return 1 if wrong else 0
