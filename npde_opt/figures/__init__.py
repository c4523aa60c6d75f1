"""Figures from plain arrays and lists, drawn on one rank."""

from typing import TYPE_CHECKING

from npde_opt.lazily import names_of

if TYPE_CHECKING:
    from npde_opt.figures.convergence import plot_convergence, plot_weights
    from npde_opt.figures.fields import plot_fields
    from npde_opt.figures.fit import plot_data_fit, plot_residuals
    from npde_opt.figures.histories import plot_history
else:
    homes = {
        "convergence": ("plot_convergence", "plot_weights"),
        "fields": ("plot_fields",),
        "fit": ("plot_data_fit", "plot_residuals"),
        "histories": ("plot_history",),
    }
    __getattr__ = names_of(__name__, homes)

__all__ = [
    "plot_convergence",
    "plot_data_fit",
    "plot_fields",
    "plot_history",
    "plot_residuals",
    "plot_weights",
]
