"""What the data say of unknown fields and what they leave open: the posterior near a minimizer."""

from typing import TYPE_CHECKING

from npde_opt.lazily import names_of
from npde_opt.posterior.settings import PosteriorSettings

if TYPE_CHECKING:
    from npde_opt.posterior.laplace import Laplace
    from npde_opt.posterior.prior import Prior
else:
    __getattr__ = names_of(__name__, {"laplace": ("Laplace",), "prior": ("Prior",)})

__all__ = ["Laplace", "PosteriorSettings", "Prior"]
