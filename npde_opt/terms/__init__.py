"""What an equation is a sum of: one file a term, each with its derivatives."""

from npde_opt.terms.advection import Advection
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.interface import Coefficients, Term
from npde_opt.terms.kinetics import Kinetics
from npde_opt.terms.nonlinear_diffusion import NonlinearDiffusion
from npde_opt.terms.reaction import Reaction
from npde_opt.terms.source import Source
from npde_opt.terms.state import SystemTerm

__all__ = ["Advection", "Coefficients", "Diffusion", "Kinetics", "NonlinearDiffusion", "Reaction", "Source",
           "SystemTerm", "Term"]
