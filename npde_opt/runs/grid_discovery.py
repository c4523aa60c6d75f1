"""Equations of states on grids of two and three axes, whose coefficients are fields: for
runs/discovery.py.

A file has t, x, y (and z), the middles of the cells, and u [t, x, y(, z)]. Rank 0 reads it and
sends the others the states of their cells.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.errors import InputError, collective
from npde_opt.grids import AXES, Grid
from npde_opt.io.fields import list_fields, read_field
from npde_opt.pseudoinverse.equation_error import Observed, even, library
from npde_opt.pseudoinverse.grid_fields import GridStates, fit_grid
from npde_opt.pseudoinverse.selection import Selected
from npde_opt.runs.equation import Equation, Varied, numbers
from npde_opt.runs.equation_case import case_text, unknown_of

WINDOWS = 24, 4
"""Half widths of test functions in steps of time and in cells, where the data are long enough."""


@dataclass(frozen=True)
class _File:
    t: np.ndarray
    axes: list[np.ndarray]
    u: np.ndarray


def has_axes(path: Path) -> bool:
    """Whether the states of a file lie on a grid of several axes."""
    return AXES[1] in list_fields(path)


def grid_equation(
    name: str, path: Path, options: argparse.Namespace, world: MPI.Intracomm
) -> Equation | None:
    """The equation of a file, on rank 0, None on others. Collective.

    Raises:
        InputError: for options that are none of grids, and files that cannot be; on all ranks.
    """
    with collective(world):
        _check(options)
        there = library(is_complex=False)
        terms = [there[j] for j in numbers("--terms", there, options.terms)]
        varying = numbers("--vary", terms, options.vary)
        whole = _read(path, options) if world.rank == 0 else None
    t, axes = world.bcast(None if whole is None else (whole.t, whole.axes))
    steps = [float(x[1] - x[0]) for x in axes]
    pairs = list(zip(axes, steps, strict=True))
    grid = Grid(
        [len(x) for x in axes],
        extent=[len(x) * dx for x, dx in pairs],
        origin=[float(x[0]) - dx / 2 for x, dx in pairs],
        comm=world,
    )
    boxes = world.gather(grid.local_slice)
    parts = None
    if whole is not None and boxes is not None:
        parts = [np.array(whole.u[(slice(None), *box)]) for box in boxes]
    lengths = len(t), min(grid.shape)
    longest = [(n - 1) // 2 for n in lengths]
    windows = options.windows or [min(p) for p in zip(WINDOWS, longest, strict=True)]
    states = GridStates(grid, t, world.scatter(parts))
    found = fit_grid(states, terms, (windows[0], windows[1]), varying)
    values = [
        world.bcast(grid.to_natural(c))
        if j in varying
        else float(c.flat[0])
        if c.size
        else 0.0
        for j, c in enumerate(found.coefficients)
    ]
    edges = grid.edges
    grid.destroy()
    if whole is None:
        return None
    fields = {
        terms[j].name: Varied(np.asarray(values[j]), None, unknown_of(terms[j]))
        for j in varying
    }
    flat = whole.u.reshape(len(t), -1, order="F")
    seen = Observed(t, np.arange(float(flat.shape[1])), flat)
    means = np.array([np.mean(value) for value in values])
    every = tuple(range(len(terms)))
    unknown = np.full(len(terms), np.nan)
    selected = Selected(every, means, unknown, found.residual, (), found.noise)
    text = case_text(name, seen, terms, values, noise=found.noise, axes=axes)
    return Equation(name, seen, terms, selected, text, fields, edges=edges)


def _check(options: argparse.Namespace) -> None:
    if not options.terms or not options.vary:
        wanted = (
            "names of both: on several axes terms are known, and at least one varies"
        )
        given = f"{options.terms or 'nothing'}, {options.vary or 'nothing'}"
        raise InputError("--terms, --vary", given, wanted)
    if options.pieces is not None:
        raise InputError("--pieces", options.pieces, "data along x alone")


def _read(path: Path, options: argparse.Namespace) -> _File:
    """With noise, where it is asked for."""
    there = list_fields(path)
    names = ["t", *(a for a in AXES if a in there), "u"]
    for name in names:
        if name not in there:
            raise InputError(str(path), f"arrays {', '.join(there)}", ", ".join(names))
    t, *axes = (np.ravel(read_field(path, name)) for name in names[:-1])
    u = np.asarray(read_field(path, "u"))
    shape = tuple(len(x) for x in (t, *axes))
    if u.shape != shape or not np.isfinite(u).all():
        told = f"shape {u.shape}"
        raise InputError(f"{path}: u", told, f"{shape}, t and axes, of finite numbers")
    for name, x in zip(names[1:-1], axes, strict=True):
        if not even(x, 5):
            told = f"{len(x)} values"
            raise InputError(f"{path}: {name}", told, "5 and more at equal steps")
    if options.noise:
        size = options.noise * float(np.sqrt((u**2).mean()))
        u = u + size * np.random.default_rng(options.seed).standard_normal(u.shape)
    return _File(t, axes, u)
