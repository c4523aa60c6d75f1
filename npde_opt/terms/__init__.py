"""What an equation is a sum of: one file a term, each with its derivatives."""

from typing import TYPE_CHECKING

from npde_opt.aliases import Coefficients
from npde_opt.lazily import names_of
from npde_opt.terms.boundary import SideValue
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.interface import LinearAt, LinearTerm, Term, TermAt
from npde_opt.terms.source import Source

if TYPE_CHECKING:
    from npde_opt.terms.absorbing import Absorbing
    from npde_opt.terms.advection import Advection
    from npde_opt.terms.convolution import Convolution
    from npde_opt.terms.gradient_diffusion import GradientDiffusion
    from npde_opt.terms.kinetics import Kinetics
    from npde_opt.terms.nonlinear_diffusion import NonlinearDiffusion
    from npde_opt.terms.reaction import Reaction
    from npde_opt.terms.tensor_diffusion import TensorDiffusion
    from npde_opt.terms.timed_advection import TimedAdvection
else:
    homes = {
        "absorbing": ("Absorbing",),
        "advection": ("Advection",),
        "convolution": ("Convolution",),
        "gradient_diffusion": ("GradientDiffusion",),
        "kinetics": ("Kinetics",),
        "nonlinear_diffusion": ("NonlinearDiffusion",),
        "reaction": ("Reaction",),
        "tensor_diffusion": ("TensorDiffusion",),
        "timed_advection": ("TimedAdvection",),
    }
    __getattr__ = names_of(__name__, homes)

__all__ = [
    "Absorbing",
    "Advection",
    "Coefficients",
    "Convolution",
    "Diffusion",
    "GradientDiffusion",
    "Kinetics",
    "LinearAt",
    "LinearTerm",
    "NonlinearDiffusion",
    "Reaction",
    "SideValue",
    "Source",
    "TensorDiffusion",
    "Term",
    "TermAt",
    "TimedAdvection",
]
