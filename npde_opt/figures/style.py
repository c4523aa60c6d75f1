"""The look of all figures, and how they are written: whole or not at all, without a display."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from npde_opt.aliases import FilePath
from npde_opt.errors import InputError
from npde_opt.io.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, FIRST, SECOND, THIRD = "#222222", "#8a8a8a", "#1f5fa8", "#c8501e", "#3a8f5c"
NO_UNIT = ("", "1")
"""Of numbers without dimension."""
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.6,
}


class style:
    """Matplotlib's Agg pyplot in the style of these figures, for the length of a block."""

    def __enter__(self) -> ModuleType:
        try:
            import matplotlib
        except ImportError:
            raise InputError(
                "figures",
                "no matplotlib package",
                "pip install 'npde_opt[plot]' (or matplotlib)",
            ) from None
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        self.context = plt.rc_context(STYLE)
        self.context.__enter__()
        return plt

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.context.__exit__(kind, error, trace)


def labelled(name: str, unit: str) -> str:
    """'u [V]'; the name alone where there is no unit, '' or '1'."""
    return f"{name} [{unit}]" if unit not in NO_UNIT else name


def amount(value: str, unit: str) -> str:
    """'0.3 m'; the value alone where there is no unit."""
    return f"{value} {unit}" if unit not in NO_UNIT else value


def widen(ax: Axes, share: float = 1e-4) -> None:
    """Gives the values of a figure at least this share of their size, so that what is constant
    but for rounding looks constant."""
    low, high = ax.get_ylim()
    least = share * max(abs(low), abs(high))
    if high - low < least:
        middle = (low + high) / 2
        ax.set_ylim(middle - least / 2, middle + least / 2)


def save(plt: ModuleType, figure: Figure, path: FilePath) -> Path:
    target = Path(path)
    content = io.BytesIO()
    figure.savefig(content, format=target.suffix[1:] or "png", bbox_inches="tight")
    plt.close(figure)
    try:
        with whole_file(target) as file:
            file.write(content.getvalue())
    except OSError as error:
        raise InputError(
            str(target),
            error.strerror or str(error),
            "a place where files can be written",
        ) from error
    return target
