"""What an equation is a sum of: one file a term, each with its derivatives."""

from npde_opt.terms.advection import Advection
from npde_opt.terms.diffusion import Diffusion
from npde_opt.terms.interface import Coefficients, Term
from npde_opt.terms.reaction import Reaction

__all__ = ["Advection", "Coefficients", "Diffusion", "Reaction", "Term"]
