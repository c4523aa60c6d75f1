"""A case's data (experiments x observations): read from a file, or simulated from the truth with
noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npde_opt.cases.measured import by_experiment, positive, some
from npde_opt.cases.tables import is_table, read_values
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError

if TYPE_CHECKING:
    from npde_opt.cases.case import Case


@dataclass(frozen=True)
class Data:
    """observed[e, i] (NaN: not observed), the standard deviation of a datum, and where they come
    from."""

    observed: np.ndarray
    sigma: np.ndarray | float
    origin: str


def read_data(case: Case, count: int) -> Data:
    """The data of observations.data, with sigma as a number or as many values in a file.

    Raises:
        InputError: for a missing sigma, wrong shapes, deviations that are not positive, and no
            datum at all.
    """
    o, total = case.table["observations"], case.experiment_count
    observed = _measured(case, "observations.data", o["data"], count)
    if o["sigma"] is None:
        raise InputError("observations.sigma", "nothing", "a positive number or a file with measured data")
    if isinstance(o["sigma"], dict):
        sigma = _measured(case, "observations.sigma", o["sigma"], count)
    else:
        sigma = np.full((total, count), float(o["sigma"]))
    case.places.drop_driven(observed)
    some("observations.data", observed)
    sigma = positive("observations.sigma", sigma, observed)
    if o.get("add_noise"):
        observed = observed + sigma * np.random.default_rng([case.seed, 2]).standard_normal(observed.shape)
    return Data(observed, sigma, f"data from {o['data']['file']}" + (", noise added" if o.get("add_noise") else ""))


def _measured(case: Case, field: str, spec: dict[str, Any], count: int) -> np.ndarray:
    """An array (experiments, observations) of a file."""
    values = read_values(field, spec, case.sources)
    return by_experiment(field, values, case.experiment_count, count, is_table(Path(spec["file"])))


def simulate(case: Case, ensemble: Ensemble) -> Data:
    """Data of the truth with noise of `sigma`, or `noise` times their root mean square.
    Collective."""
    o, total, comm = case.table["observations"], case.experiment_count, ensemble.space
    with ensemble.together():
        edges = case.domain.data_edges()
        grid = case.domain.grid(comm, edges)
        own = list(ensemble.own(total))
        forward = case.forward(grid, own)
        m = case.start(forward.space, "truth")
        lin = forward.linearize(m)
        found = [np.concatenate(comm.allgather(np.array(d.getArray()))) for d in lin.data]
    clean = np.zeros((total, found[0].size))
    clean[own] = found
    if ensemble.groups > 1:
        clean = ensemble.across.bcast(ensemble.across.reduce(clean, root=0), root=0)
    sigma = o["sigma"] if o["sigma"] is not None else o["noise"] * float(np.sqrt(np.mean(clean**2)))
    observed = clean + sigma * np.random.default_rng([case.seed, 2]).standard_normal(clean.shape)
    case.places.drop_driven(observed)
    lin.destroy()
    forward.destroy()
    m.destroy()
    grid.destroy()
    finer = all(a.size > b.size or b.size == 2 for a, b in zip(edges, case.domain.edges, strict=True))
    return Data(observed, sigma, f"data simulated on {' x '.join(map(str, grid.shape))} cells" + ("" if finer else
                ", no finer than the grid inverted: measured data would fit less well"))
