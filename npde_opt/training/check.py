"""What a training case holds, in numbers: samples and parts, layers with their cells and weights,
optimizers; for `python -m npde_opt check CASE`."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.ensemble import Ensemble
from npde_opt.errors import NpdeError
from npde_opt.training.case import TrainingCase, load_training
from npde_opt.training.problem import Problem

OWN, OTHERS = {"layer", "network", "loss", "data"}, {"grid", "reservoir"}
"""Sections that tell a training case, and those that tell another one."""


def is_training(argv: Sequence[str]) -> bool:
    """Whether one of the arguments is the file of a training case, layers misspelt or not."""
    for name in argv:
        try:
            if name.endswith(".toml"):
                found = tomllib.loads(Path(name).read_text())
                if found.keys() & OWN and not found.keys() & OTHERS:
                    return True
        except (OSError, ValueError):
            continue
    return False


def checked(case: TrainingCase) -> list[str]:
    """Lines about a case, of which everything is read. Raises InputError for what is wrong."""
    problem = Problem(case, Ensemble.whole(MPI.COMM_SELF))
    problem.try_others()
    source = problem.source
    shape = " x ".join(map(str, source.shape[::-1]))
    lines = [
        f"{case.title}: {source.name}",
        f"  samples       {source.channels} channels on {shape} cells"
        + (f", {len(source.classes)} classes" if source.classes else ""),
    ]
    for part in problem.parts.all:
        told = ""
        if part.source.labels is not None:
            counts = np.bincount(
                part.source.labels[part.numbers], minlength=len(source.classes)
            )
            told = f", {counts.min():,} to {counts.max():,} of a class"
        lines.append(f"  {part.name:<13} {part.count:,}{told}")
    network = problem.network
    lines += [f"  layers        {len(network.steps)}, {network.size:,} weights"]
    lines += [
        f"    {name:<11} {' x '.join(map(str, s))}"
        for name, s in network.shapes.items()
    ]
    for settings in case.settings():
        lines.append(
            f"  optimizer     {settings.method}, {settings.max_iterations} iterations"
        )
    problem.destroy()
    return lines


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    p = argparse.ArgumentParser(prog="python -m npde_opt check", description=__doc__)
    p.add_argument("case", metavar="CASE")
    p.add_argument(
        "--data", default=os.environ.get("NPDE_DATA"), help="folder with its data"
    )
    options = p.parse_args(list(argv))
    try:
        lines = checked(load_training(options.case, MPI.COMM_SELF, data=options.data))
    except NpdeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines))
    return 0
