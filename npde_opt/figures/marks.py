"""What figures mark on a field: electrodes, wells, places of observation, and boundary values.

Many markers are drawn smaller and translucent, and of very many only some, so that they do not
hide the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npde_opt.aliases import Record
from npde_opt.grids import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHAPES = {"electrodes": "s", "wells": "v"}
"""Markers by name; others are circles."""
COLOURS = {"electrodes": "#ffd166", "wells": "#ff6b6b"}
FEW, MANY = 150, 1000
"""Markers up to which they are drawn in full, and from which on they are dots."""
MOST = 2000
"""Dots at most."""
NEAR = 0.05
"""Distance from a slice, in lengths of the box, up to which places are marked on it."""
SIDE_COLOURS = ("#c8501e", "#1f5fa8", "#3a8f5c", "#8e44ad")


@dataclass(frozen=True, eq=False)
class Marks:
    """Places of one kind.

    Args:
        name: as the legend calls them: 'electrodes', 'wells', 'observations'.
        at: coordinates (n, dim).
    """

    name: str
    at: np.ndarray

    @property
    def label(self) -> str:
        """For a legend."""
        count = len(self.at)
        if count <= FEW:
            return self.name
        step = stride(count)
        return f"{count:,} {self.name}" + (f" (1 of {step} drawn)" if step > 1 else "")

    def look(self) -> Record:
        """Keywords of a plot."""
        common: Record = {"marker": SHAPES.get(self.name, "o"), "ls": "none"}
        count = len(self.at)
        if count > MANY:
            return common | {"ms": 1.3, "mfc": "white", "mec": "none", "alpha": 0.55}
        size, edge = (4.0, 0.7) if count <= FEW else (2.2, 0.3)
        if self.name in SHAPES:
            size += 1.0
        face = COLOURS.get(self.name, "white")
        return common | {"ms": size, "mfc": face, "mec": "black", "mew": edge}


def stride(count: int) -> int:
    """Of so many places, one of how many is drawn."""
    return -(-count // MOST)


def shown_on(kinds: Sequence[Marks], panel: int) -> list[Marks]:
    """What a panel shows: very many dots are on the first one only, so that the others have the
    field alone."""
    return [k for k in kinds if panel == 0 or len(k.at) <= MANY]


def mark(
    ax: Axes,
    edges: Sequence[np.ndarray],
    kinds: Sequence[Marks],
    fixed: int | None,
    middle: float,
) -> None:
    """Marks the places on a map.

    Args:
        fixed: the axis that a slice of three dimensions cuts, at `middle`; else None.
    """
    for kind in kinds:
        places = kind.at[:: stride(len(kind.at))]
        if fixed is not None:
            near = np.ptp(edges[fixed]) * NEAR
            close = np.abs(places[:, fixed] - middle) <= near
            places = np.delete(places[close], fixed, axis=1)
        # A line of none would count in the layout, as a point at the figure's end.
        if len(places):
            ax.plot(*places.T[:2], **kind.look(), clip_on=False, zorder=3)


def colours_of(sides: Mapping[str, str]) -> dict[str, str]:
    """A colour for each text."""
    texts = list(dict.fromkeys(sides.values()))
    return {text: SIDE_COLOURS[i % len(SIDE_COLOURS)] for i, text in enumerate(texts)}


def mark_sides(ax: Axes, names: Sequence[str], sides: Mapping[str, str]) -> None:
    """A bar along each side of a map that has a boundary value.

    Args:
        names: of the map's two axes.
        sides: side ('x-') to what is prescribed there.
    """
    colours = colours_of(sides)
    for side, text in sides.items():
        if side[0] not in names:
            continue
        end = float(side[1] == "+")
        along = [end, end], [0.0, 1.0]
        x, y = along if side[0] == names[0] else along[::-1]
        ax.plot(
            x,
            y,
            color=colours[text],
            lw=4,
            solid_capstyle="butt",
            transform=ax.transAxes,
            clip_on=False,
            zorder=2.5,
        )


def legend(figure: Figure, kinds: Sequence[Marks], sides: Mapping[str, str]) -> None:
    """What the marks mean, below the maps."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            label=k.label,
            **k.look() | {"ms": 4.0, "alpha": 1.0, "mec": "black"},
        )
        for k in kinds
    ]
    for text, colour in colours_of(sides).items():
        on = ", ".join(side for side, said in sides.items() if said == text)
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                lw=4,
                solid_capstyle="butt",
                label=f"{text} ({on})",
            )
        )
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(handles), 4),
            handletextpad=0.7,
        )


def line_marks(ax: Axes, kinds: Sequence[Marks], sides: Mapping[str, str]) -> None:
    """Marks along the lower side of a figure of one dimension, and bars at its ends."""
    for kind in kinds:
        look = kind.look() | {
            "marker": SHAPES.get(kind.name, "|"),
            "mec": "#444444",
            "ms": 6.0,
        }
        at = kind.at[:: stride(len(kind.at)), 0]
        low = np.zeros(len(at))
        ax.plot(at, low, **look, clip_on=False, transform=ax.get_xaxis_transform())
    mark_sides(ax, (AXES[0], ""), sides)
