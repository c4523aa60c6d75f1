"""An operator as it is assembled: where its entries are, its eigenvalues, and which entries share
a weight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.figures.style import FAINT, FIRST, SECOND, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 4096
"""Rows of which all eigenvalues are found, in memory and time of a dense matrix."""


def plot_operator(
    path: FilePath, matrix: scipy.sparse.spmatrix, title: str = "", circle: bool = False
) -> Path:
    """The entries of a matrix, positive and negative ones apart, beside its eigenvalues; where it
    is not square, beside its singular values.

    Args:
        matrix: all of it, as `networks.matrices.gathered` gives it on rank 0.
        circle: whether the unit circle, where norms are kept, is drawn.

    Raises:
        InputError: for a matrix of more than MOST rows or columns.
    """
    if max(matrix.shape) > MOST:
        raise InputError(
            "figure of an operator", f"{matrix.shape} entries", f"at most {MOST} rows"
        )
    entries = scipy.sparse.coo_matrix(matrix)
    with style() as plt:
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9.2, 4.2), layout="constrained"
        )
        size = float(np.clip(220 / max(matrix.shape), 0.3, 6))
        for sign, color in ((1, FIRST), (-1, SECOND)):
            on = sign * entries.data > 0
            left.plot(
                entries.col[on], entries.row[on], "s", color=color, ms=size, mew=0
            )
        rows, columns = matrix.shape
        left.set(
            xlim=(-1, columns),
            ylim=(rows, -1),
            aspect="equal",
            xlabel="column",
            ylabel="row",
        )
        count = np.count_nonzero(entries.data)
        left.set_title(f"{title}: {count:,} entries" if title else f"{count:,} entries")
        dense = entries.toarray()
        if rows == columns:
            _draw_eigenvalues(right, dense, circle)
        else:
            values = np.linalg.svd(dense, compute_uv=False)
            right.plot(np.arange(1, len(values) + 1), values, ".", color=FIRST, ms=4)
            right.set(xlabel="number", ylabel="singular value")
        return save(plt, figure, path)


def plot_sharing(path: FilePath, numbers: Mapping[str, np.ndarray]) -> Path:
    """Which entries of matrices are the same weight: entries of one number have one colour.

    Args:
        numbers: by title a matrix of the numbers of weights, from 1; 0 where there is no entry.
    """
    with style() as plt:
        count = len(numbers)
        figure, axes = plt.subplots(
            1, count, figsize=(3.2 * count, 3.6), layout="constrained"
        )
        for ax, (title, found) in zip(
            np.atleast_1d(axes), numbers.items(), strict=True
        ):
            shown = np.ma.masked_equal(found, 0)
            ax.imshow(
                shown, cmap="turbo", vmin=0.5, vmax=found.max() + 0.5, aspect="equal"
            )
            ax.set_title(f"{title}: {len(np.unique(found[found > 0]))} weights")
            ax.set(xticks=[], yticks=[], xlabel="before", ylabel="behind")
        return save(plt, figure, path)


def _draw_eigenvalues(ax: Axes, dense: np.ndarray, circle: bool) -> None:
    """In the complex plane; by number, where all are real."""
    symmetric = np.allclose(
        dense, dense.T, rtol=1e-10, atol=1e-12 * np.abs(dense).max()
    )
    if symmetric:
        values = np.linalg.eigvalsh(dense)
        ax.plot(np.arange(1, len(values) + 1), values, ".", color=FIRST, ms=3)
        ax.set(xlabel="number", ylabel="eigenvalue")
        return
    found = np.linalg.eigvals(dense)
    if circle:
        angle = np.linspace(0, 2 * np.pi, 400)
        ax.plot(np.cos(angle), np.sin(angle), color=FAINT, lw=0.8)
    ax.plot(found.real, found.imag, ".", color=FIRST, ms=3)
    ax.set(xlabel="real part of eigenvalues", ylabel="imaginary part")
    ax.set_aspect("equal", "datalim")
