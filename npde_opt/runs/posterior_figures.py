"""Figures of a posterior: spectrum, bands of the data, coverage, where to measure next, chains."""

from __future__ import annotations

import numpy as np

from npde_opt import figures
from npde_opt.figures.posterior import (
    plot_bands,
    plot_chains,
    plot_design,
    plot_information,
)
from npde_opt.figures.profiles import plot_profiles
from npde_opt.grids.thinned import Thinned
from npde_opt.runs import chains, next_places, profiles
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.folder import RunDirectory
from npde_opt.runs.marked import marks_of, sides_of
from npde_opt.runs.posterior import BANDS, SPECTRUM, Posterior, fields_of
from npde_opt.runs.predicted import Predicted


def draw(
    left: Posterior, out: RunDirectory, bands: np.ndarray | None, attempt: Attempts
) -> None:
    """All of them, `bands` those of `bands_of`. Collective over the group that writes; rank 0
    draws."""
    attempt("figures of the coverage", lambda: _coverage(left, out))
    if left.on.grid.comm.rank > 0:
        return
    if bands is not None:
        _bands(left, out, bands)
    values, cut = left.laplace.values, left.laplace.settings.cut
    if len(values):
        plot_information(out.file(SPECTRUM), values, cut)
    if left.places is not None:
        _design(left, out)
    if left.profiles is not None:
        plot_profiles(out.file(profiles.FIGURE), left.profiles.curves())
    if left.sampled is not None:
        traces = left.sampled.traces[:, :, 2:]
        plot_chains(out.file(chains.FIGURE), left.sampled.names, traces)


def bands_of(rows: Predicted) -> np.ndarray | None:
    """Columns of the data that are fitted: predicted, its deviation, observed, sigma; None where
    there are no bands, and on all ranks but the first. Collective over all ranks."""
    if rows.deviation is None:
        return None
    columns = [rows.predicted, rows.deviation, rows.observed, rows.sigma]
    return rows.in_order(columns, rows.fitted)


def _bands(left: Posterior, out: RunDirectory, bands: np.ndarray) -> None:
    units = {o.unit for o in left.case.table.observation}
    unit = units.pop() if len(units) == 1 else ""
    plot_bands(out.file(BANDS), *bands.T, unit=unit)


def _design(left: Posterior, out: RunDirectory) -> None:
    places = left.places
    assert places is not None
    plot_design(
        out.file(next_places.FIGURE),
        places.at,
        places.deviations,
        places.design.chosen,
        places.design.information,
        places.design.left,
        edges=left.case.domain.edges,
        length_unit=left.case.table.case.length_unit,
        axes=left.on.grid.axis_names,
    )


def _coverage(left: Posterior, out: RunDirectory) -> None:
    """Sums of sensitivities, in logarithmic colours."""
    thinned = Thinned(left.on.grid)
    active = thinned.gathered(left.on.grid.active)
    for name in fields_of(left.case):
        shown = left.shown.get(f"{name}_coverage")
        if shown is None:
            continue
        values = thinned.gathered(np.asarray(shown))
        if values is None:
            continue
        figures.plot_fields(
            out.file(f"{name}_coverage.png"),
            thinned.edges,
            values,
            title=f"coverage of {name}",
            name="sensitivity of all data",
            unit="",
            length_unit=left.case.table.case.length_unit,
            active=active,
            marks=marks_of(left.case),
            sides=sides_of(left.case),
            axes=left.on.grid.axis_names,
            log=True,
            cmap="cividis",
        )
