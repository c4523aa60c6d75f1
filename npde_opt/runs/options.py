"""The command line of drivers: two dashes are theirs, one dash goes to PETSc.

Nothing is imported here that needs PETSc, which `read_options` starts with its own options.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import petsc4py
from mpi4py import MPI

from npde_opt import __version__

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

PETSC_HELP = "-help"
"""An option of PETSc's, which would else be read as -h."""


class Parser(argparse.ArgumentParser):
    """Speaks on rank 0 only."""

    def _print_message(
        self, message: str, file: SupportsWrite[str] | None = None
    ) -> None:
        if MPI.COMM_WORLD.rank == 0:
            super()._print_message(message, file)


def plain(description: str | None) -> Parser:
    """The options of every driver."""
    p = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument(
        "--version",
        action="version",
        version=f"npde_opt {__version__}",
        help="print it, and stop",
    )
    p.add_argument("--out", help="folder for what the run leaves")
    p.add_argument(
        "--overwrite",
        action="store_true",
        help="remove what an earlier run wrote into --out, then begin",
    )
    p.add_argument("--seed", type=int, default=0, help="of noise and of what is drawn")
    p.add_argument(
        "--data",
        default=os.environ.get("NPDE_DATA"),
        help="folder with the case's data (or NPDE_DATA)",
    )
    p.add_argument("--plot", action="store_true", help="write figures")
    p.set_defaults(resume=False, levels=None, verify=False, set=[], uncertainty=None)
    return p


def base(description: str | None, case: str | None = None) -> Parser:
    """The options of a driver that works on a case.

    Args:
        case: the file where none is given; None: one has to be.
    """
    p = plain(description)
    said = (
        "python -m npde_opt check --format"
        if case is None
        else "docs/training-format.md"
    )
    default = "" if case is None else f"; default: {os.path.relpath(case)}"
    p.add_argument(
        "--case",
        required=case is None,
        default=case,
        help=f"TOML file (format: {said}{default})",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the case's [variables]",
    )
    return p


def readout(description: str | None) -> Parser:
    """The options of the driver that learns by least squares."""
    p = plain(description)
    p.add_argument(
        "--case", metavar="FILE", help="a series that reservoirs predict; no samples"
    )
    p.add_argument(
        "--samples",
        nargs="+",
        default=["digits"],
        metavar="FILE",
        help="digits (default), mnist, or files of rows, here or in --data: each a .npz with "
        "features H and targets T, or two .npy, H and T",
    )
    p.add_argument(
        "--test", nargs="+", metavar="FILE", help="other such files, to test with"
    )
    p.add_argument(
        "--classes",
        action="store_true",
        help="T of files is one column, the class of each row, from 0 on",
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on with the files of the run in --out, which was killed",
    )
    p.add_argument(
        "--recipe",
        choices=("random", "receptive", "oriented", "autoencoders"),
        help="features: a random layer of the pictures, of one rectangle each, or of oriented "
        "derivatives that were diffused and coarsened (default); or of these, as many "
        "pseudoinverse autoencoders as lower the error of samples that are held back",
    )
    p.add_argument(
        "--features", type=int, nargs="+", metavar="N", help="of a layer; default: 2000"
    )
    p.add_argument(
        "--repeats", type=int, help="seeds and, of digits, splits; default: 5"
    )
    p.add_argument(
        "--method",
        choices=("qr", "gram"),
        help="default: gram; of rows in files qr",
    )
    p.add_argument(
        "--ridge",
        help="a number, gcv, loo (of rows in files gcv is the default), or held (rows held back; "
        "default otherwise)",
    )
    return p


def discovery(description: str | None) -> Parser:
    """The options of the driver that finds an equation from data."""
    p = plain(description)
    p.add_argument(
        "--file",
        nargs="+",
        default=["AC.mat", "NLS.mat", "harmonic_osc.mat"],
        help="in --data or its folder pde: t (or tt), x and u (uu, usol); with y (and z) "
        "states of a grid, of which --terms and --vary name what is sought",
    )
    p.add_argument(
        "--noise", type=float, default=0.0, help="share of u that is added as noise"
    )
    p.add_argument("--form", default="weak", choices=("weak", "differences"))
    p.add_argument(
        "--windows",
        type=int,
        nargs=2,
        metavar=("T", "X"),
        help="half windows in steps of t and x",
    )
    p.add_argument(
        "--terms", nargs="+", metavar="NAME", help="of the library; default: chosen"
    )
    p.add_argument(
        "--vary",
        nargs="+",
        default=[],
        metavar="NAME",
        help="terms whose coefficients are fields: of --terms, or of those chosen",
    )
    p.add_argument(
        "--pieces",
        type=int,
        metavar="N",
        help="fields are constant on N parts of x; default: a value a place",
    )
    return p


def common(description: str | None) -> Parser:
    """The options of a driver that works on the case of an equation."""
    p = base(description)
    p.add_argument(
        "--grid", type=int, nargs="+", metavar="N", help="cells along each axis"
    )
    p.add_argument(
        "--experiment-groups",
        type=int,
        default=1,
        help="groups of ranks that share the experiments",
    )
    p.add_argument(
        "--module",
        metavar="FILE",
        help="Python file that registers terms, misfits, regularizers",
    )
    p.add_argument(
        "--memory",
        help="budget for the trajectories of cases with [time], all ranks, e.g. 4GB",
    )
    return p


def training(description: str | None, case: str) -> Parser:
    """The options of a driver that trains a network.

    Args:
        case: the file where none is given.
    """
    p = base(description, case)
    add_resume(p)
    p.add_argument(
        "--sample-groups",
        type=int,
        help="groups of ranks that share the samples, each sample's cells on the ranks of one; "
        "default: as many as ranks",
    )
    return p


def add_resume(p: Parser) -> None:
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in --out; without one, begin",
    )


def identification(description: str | None) -> Parser:
    """The options of a driver that identifies parameters."""
    p = common(description)
    add_resume(p)
    p.add_argument(
        "--levels", type=int, help="grids of nested iteration; 1 switches it off"
    )
    p.add_argument(
        "--optimizer",
        help="newton, gauss-newton, lbfgs, lmvm, bounded-lbfgs, bqnkls, bntr, ncg, adam, adamw, "
        "registered",
    )
    p.add_argument(
        "--uncertainty",
        choices=("laplace", "samples", "profile"),
        help="write what the data leave open: deviations, samples, eigenvalues "
        "(docs/uncertainty.md); samples: by Markov chains, too (docs/sampling.md); profile: with "
        "intervals of few numbers by profile likelihood",
    )
    p.add_argument(
        "--chain-groups",
        type=int,
        default=1,
        help="groups of ranks that share the chains of --uncertainty samples",
    )
    p.add_argument(
        "--verify",
        action="store_true",
        help="Taylor and dot-product tests of this case's derivatives, then stop",
    )
    return p


def simulation(description: str | None) -> Parser:
    """The options of a driver that runs a case forward."""
    p = common(description)
    p.add_argument(
        "--noise", action="store_true", help="add the case's noise to the data"
    )
    p.add_argument(
        "--zarr",
        type=int,
        metavar="N",
        help="also states.zarr: N states of every experiment, evenly spaced in time",
    )
    return p


PARSERS: dict[str, Callable[..., Parser]] = {
    "identification": identification,
    "simulation": simulation,
    "training": training,
    "readout": readout,
    "discovery": discovery,
}
"""The options of drivers, by what they do."""


def read_options(p: Parser) -> argparse.Namespace:
    """The command line's options; PETSc is started with those that are its own.

    Ends the program with code 2 and a message on rank 0 where one cannot be.
    """
    given = [a for a in sys.argv[1:] if a != PETSC_HELP]
    asked = [PETSC_HELP] if PETSC_HELP in sys.argv[1:] else []
    if asked and not any(a.partition("=")[0] == "--case" for a in given):
        petsc4py.init([sys.argv[0], *asked])
        p.exit(0, "With a --case, options of what the run uses follow as it goes on.\n")
    options, rest = p.parse_known_args(given)
    wrong = [a for a in rest if a.startswith("--")]
    if wrong:
        p.error(
            f"unknown option {wrong[0]}; see --help (PETSc's options have one dash)"
        )
    if options.out is None and not options.verify:
        p.error("--out is needed (a folder for the results)")
    if options.out is not None and not options.out.strip():
        p.error(f"--out {options.out!r}: the name of a folder")
    if options.resume and options.overwrite:
        p.error("--resume and --overwrite exclude each other")
    if options.seed < 0:
        p.error(f"--seed {options.seed}: at least 0")
    if getattr(options, "chain_groups", 1) != 1 and options.uncertainty != "samples":
        p.error("--chain-groups: only with --uncertainty samples")
    if options.levels is not None and options.levels < 1:
        p.error(f"--levels {options.levels}: at least 1")
    options.variables = dict(_pair(p, text) for text in options.set)
    petsc4py.init([sys.argv[0], *rest, *asked])
    return options


def _pair(p: Parser, text: str) -> list[str]:
    """NAME=VALUE."""
    if "=" not in text:
        p.error(f"--set {text}: NAME=VALUE")
    return text.split("=", 1)
