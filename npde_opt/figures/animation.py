"""An animated GIF of a state in time: lines in one dimension, maps in two, three slices through the
last maximum in three."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from npde_opt.aliases import FilePath
from npde_opt.figures.marks import Marks, legend, mark, mark_sides
from npde_opt.figures.scales import scale_of
from npde_opt.figures.style import labelled, style
from npde_opt.grids import AXES
from npde_opt.io.files import beside, disk

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    Frames = tuple[Figure, Callable[[int], list[Artist]]]

LARGEST = 512
GRADED = 100.0
DOTS = 80
"""An inch of an animation."""


def animate(
    path: FilePath,
    edges: Sequence[np.ndarray],
    frames: Sequence[np.ndarray],
    times: Sequence[float],
    *,
    name: str = "u",
    length_unit: str = "m",
    axis: str = "t",
    active: np.ndarray | None = None,
    data: Sequence[tuple[float, np.ndarray]] = (),
    marks: Sequence[Marks] = (),
    sides: Mapping[str, str] | None = None,
    axes: Sequence[str] = AXES,
    every: float = 0.08,
) -> Path:
    """Writes the frames, arrays [i, j, k], one every `every` seconds.

    Args:
        data: (time, values [i]) of one dimension, drawn as points from their time on.
        active: bool [i, j, k]; other cells are left out.
        marks, sides, axes: as in plot_fields.

    Raises:
        InputError: without matplotlib and pillow, and for a place that is not writable.
    """
    with style() as plt:
        shown = [
            np.where(active, f, np.nan) if active is not None else np.asarray(f)
            for f in frames
        ]
        if len(edges) == 1:
            figure, update = _lines(
                plt,
                edges[0],
                shown,
                times,
                name,
                labelled(axes[0], length_unit),
                axis,
                data,
            )
        else:
            figure, update = _maps(
                plt,
                edges,
                shown,
                times,
                name,
                length_unit,
                axis,
                marks,
                sides or {},
                axes,
            )
        write(path, plt, figure, update, len(shown), every)
    return Path(path)


def write(
    path: FilePath,
    plt: ModuleType,
    figure: Figure,
    update: Callable[[int], list[Artist]],
    frames: int,
    every: float,
) -> None:
    """The figure as a GIF of frames update(0), update(1), ..., one every `every` seconds; closes
    the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DOTS)
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib does not type what is used of it
    # Where everything lies is found once: finding it takes longer than drawing a frame.
    update(0)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    images = []
    for frame in range(frames):
        update(frame)
        canvas.draw()
        images.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
    first, *others = images
    target = Path(path)
    temporary = beside(target)
    try:
        with disk(str(target), target.parent, "a place where files can be written"):
            first.save(
                os.fspath(temporary),
                format="GIF",
                save_all=True,
                append_images=others,
                duration=round(1000 * every),
                loop=0,
            )
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        plt.close(figure)


def titled(axis: str, value: float) -> str:
    """'z = 3 um' from 'z [um]' and 3."""
    name, _, unit = axis.partition(" ")
    return f"{name} = {value:.4g} {unit.strip('[]')}".rstrip()


def _lines(
    plt: ModuleType,
    edges: np.ndarray,
    frames: Sequence[np.ndarray],
    times: Sequence[float],
    name: str,
    place: str,
    axis: str,
    data: Sequence[tuple[float, np.ndarray]],
) -> Frames:
    """The figure, and what draws a frame."""
    low, high = (
        float(end([end(f[np.isfinite(f)]) for f in frames])) for end in (np.min, np.max)
    )
    high = high if high > low else low + 1.0
    figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    x = (edges[1:] + edges[:-1]) / 2
    (line,) = ax.plot(x, frames[0])
    (points,) = ax.plot([], [], "o", ms=3, color="tab:red", label="data")
    top = max([high, *[float(np.nanmax(v)) for _, v in data]])
    ax.set(
        xlabel=place,
        ylabel=name,
        ylim=(low, low + 1.05 * (top - low)),
    )
    if data:
        ax.legend(loc="upper right")

    def update(i: int) -> list[Artist]:
        line.set_ydata(frames[i])
        seen = [d for d in data if d[0] <= times[i] * (1 + 1e-9)]
        if seen:
            points.set_data(x, seen[-1][1])
        ax.set_title(
            titled(axis, times[i]) + (f", data of {seen[-1][0]:.4g}" if seen else "")
        )
        return [line, points]

    return figure, update


def _maps(
    plt: ModuleType,
    edges: Sequence[np.ndarray],
    frames: Sequence[np.ndarray],
    times: Sequence[float],
    name: str,
    length_unit: str,
    axis: str,
    marks: Sequence[Marks],
    sides: Mapping[str, str],
    names: Sequence[str],
) -> Frames:
    """The same of maps."""
    dim, scale = len(edges), scale_of(frames)
    cuts = [None] if dim == 2 else [2, 1, 0]
    figure, axes = plt.subplots(
        1, len(cuts), figsize=(4.6 * len(cuts), 4.0), squeeze=False, layout="compressed"
    )
    images = []
    middle = np.unravel_index(np.nanargmax(frames[-1]), frames[-1].shape)
    for ax, cut in zip(axes[0], cuts, strict=True):
        kept = [d for d in range(dim) if d != cut]
        plane, at = (
            [edges[d] for d in kept],
            tuple(middle[d] if d == cut else slice(None) for d in range(dim)),
        )
        kind = {"norm": scale.norm(), "cmap": "magma"}
        logarithmic = all(
            e[0] >= 0 and e[-1] - e[-2] > GRADED * (e[1] - e[0]) for e in plane
        )
        if logarithmic:  # around a well: most cells are near the origin
            artist = ax.pcolormesh(*plane, frames[0][at].T, **kind)
            ax.set(
                xscale="log",
                yscale="log",
                xlim=(plane[0][1], plane[0][-1]),
                ylim=(plane[1][1], plane[1][-1]),
            )
        else:
            artist = ax.imshow(
                pixels(frames[0][at], plane).T,
                origin="lower",
                extent=extent(plane),
                aspect="auto" if dim == 2 else "equal",
                **kind,
            )
        images.append((artist, at, None if logarithmic else plane))
        first, second = (labelled(names[d], length_unit) for d in kept)
        ax.set(xlabel=first, ylabel=second)
        if not logarithmic:
            at_cut = 0.0 if cut is None else float(edges[cut][middle[cut]])
            mark(ax, edges, marks, cut, at_cut)
            mark_sides(ax, [AXES[d] for d in kept], sides)
    figure.colorbar(images[-1][0], ax=axes[0].tolist(), label=name, extend=scale.extend)
    legend(figure, marks, sides)

    def update(i: int) -> list[Artist]:
        for image, at, plane in images:
            if plane is None:
                image.set_array(frames[i][at].T)
            else:
                image.set_data(pixels(frames[i][at], plane).T)
        figure.suptitle(titled(axis, times[i]))
        return [image for image, *_ in images]

    return figure, update


def extent(edges: Sequence[np.ndarray]) -> list[float]:
    """Of an image of two axes."""
    return [edges[0][0], edges[0][-1], edges[1][0], edges[1][-1]]


def pixels(values: np.ndarray, edges: Sequence[np.ndarray]) -> np.ndarray:
    """Values [i, j] on evenly spaced pixels, at most LARGEST a side: those of the cells that hold
    their centres."""
    picks = []
    for e in edges:
        widths = np.diff(e)
        even = np.allclose(widths, widths[0], rtol=1e-6, atol=0)
        count = min(widths.size, LARGEST) if even else LARGEST
        centers = e[0] + (e[-1] - e[0]) * (np.arange(count) + 0.5) / count
        picks.append(
            np.clip(np.searchsorted(e, centers, side="right") - 1, 0, widths.size - 1)
        )
    return values[np.ix_(*picks)]
