"""What figures show of the data of all experiments: all ranks share the data, rank 0 has what is
shown and draws it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npde_opt.cases import Case
from npde_opt.runs.attempts import Attempts
from npde_opt.runs.every_cell import EveryCell
from npde_opt.runs.predicted import LARGEST, Predicted

SHOWN_TIMES = 5
"""Of snapshots at most."""


@dataclass(frozen=True)
class Snapshots:
    """[t, i, j] at some times, and the edges of the cells that are shown."""

    edges: list[np.ndarray]
    times: list[float]
    measured: np.ndarray
    fitted: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True)
class DataShown:
    """What figures show of the data of all experiments; None on all ranks but the first, and of
    what could not be had.

    Attributes:
        count: of all data, on all ranks.
        fit: columns of the data that are fitted: observed, predicted, sigma, residual, places.
        snapshots: of the first experiment's, where they see every cell.
    """

    count: int | None
    fit: np.ndarray | None
    snapshots: Snapshots | None


def data_shown(
    case: Case, predicted: list[np.ndarray], rows: Predicted, attempt: Attempts
) -> DataShown:
    """Each part by itself: where one fails, the figures of the others are there. Collective over
    all ranks, which share the data."""
    count = attempt("the number of data", lambda: _count(case))
    fit = attempt("data to draw, of the fit", lambda: _fit(rows))
    snapshots = attempt(
        "data to draw, of every cell", lambda: _every_cell(case, predicted[0])
    )
    return DataShown(count, fit, snapshots)


def _count(case: Case) -> int:
    assert case.data is not None
    return int(case.data.share.sums(*case.data.observed)[:, 1].sum())


def _fit(rows: Predicted) -> np.ndarray | None:
    """Columns of the data that are fitted, on rank 0."""
    columns = [rows.observed, rows.predicted, rows.sigma, rows.residual, *rows.at.T]
    return rows.in_order(columns, rows.member == 0)


def _every_cell(case: Case, predicted: np.ndarray) -> Snapshots | None:
    """The first experiment's data, where they see every cell, at up to five times, beside what the
    fit predicts. On rank 0."""
    edges, first, data = case.domain.edges, case.observations[0], case.data
    if not case.evolves or len(edges) > 2 or not first.everywhere or data is None:
        return None
    times = np.array(first.times)
    count = min(times.size, SHOWN_TIMES)
    picks = np.unique(np.linspace(0, times.size - 1, count).astype(int))
    shown = EveryCell(data.share, edges, picks, LARGEST // 3)
    measured, fitted, sigma = (
        shown.gathered(values)
        for values in (data.observed[0], predicted, data.sigma[0])
    )
    if measured is None or fitted is None or sigma is None:
        return None
    return Snapshots(shown.edges, times[picks].tolist(), measured, fitted, sigma)
