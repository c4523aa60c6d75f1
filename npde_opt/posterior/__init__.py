"""What the data say of unknown fields and what they leave open: the posterior near a minimizer."""

from npde_opt.posterior.laplace import Laplace
from npde_opt.posterior.prior import Prior
from npde_opt.posterior.settings import PosteriorSettings

__all__ = ["Laplace", "PosteriorSettings", "Prior"]
