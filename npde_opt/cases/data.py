"""A case's data (experiments x observations): read from a file, or simulated from the truth with noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.io.fields import read_field

if TYPE_CHECKING:
    from npde_opt.cases.case import Case


@dataclass(frozen=True)
class Data:
    """observed[e, i] (NaN: not observed), the standard deviation of a datum, and where they come from."""

    observed: np.ndarray
    sigma: np.ndarray | float
    origin: str


def read_data(case: Case, count: int) -> Data:
    """The data of observations.data: values, and sigma as a number or as many values in a file."""
    o, total = case.table["observations"], case.experiment_count
    arrays = []
    for name, spec in (("data", o["data"]), ("sigma", o["sigma"])):
        field = f"observations.{name}"
        if spec is None:
            raise InputError(field, "nothing", "a positive number or a file with measured data")
        if not isinstance(spec, dict):
            arrays.append(np.full((total, count), float(spec)))
            continue
        file = case.sources.find(field, spec["file"])
        values = read_field(file, spec.get("key"), allow_nan=name == "data")
        if values.size != count * total:
            raise InputError(field, f"{values.size} values in {file.name}", f"{total} experiments x {count} observations")
        arrays.append(values.reshape(total, count).astype(float))
    observed, sigma = arrays
    if not (sigma > 0).all():
        raise InputError("observations.sigma", float(sigma[~(sigma > 0)][0]), "positive standard deviations")
    if not np.isfinite(observed).any():
        raise InputError("observations.data", "NaN only", "at least one value")
    return Data(observed, sigma, f"data from {o['data']['file']}")


def simulate(case: Case, ensemble: Ensemble) -> Data:
    """Data of the truth with noise of `sigma`, or `noise` times their root mean square. Collective."""
    o, total, comm = case.table["observations"], case.experiment_count, ensemble.space
    with collective(comm):
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
