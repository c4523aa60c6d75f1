"""Functions in equations: texts, a small language of arithmetic, and splines and perceptrons with
numbers that may be sought, which texts call; all with derivatives."""

from typing import TYPE_CHECKING

from npde_opt.functions.interface import Function
from npde_opt.functions.links import link
from npde_opt.functions.parser import CONSTANTS, FUNCTIONS, Functions, Written
from npde_opt.functions.text import Expressions, evaluate_text, gamma_of
from npde_opt.lazily import names_of

if TYPE_CHECKING:
    from npde_opt.functions.perceptron import Perceptron
    from npde_opt.functions.spline import Spline
else:
    homes = {"perceptron": ("Perceptron",), "spline": ("Spline",)}
    __getattr__ = names_of(__name__, homes)

__all__ = [
    "CONSTANTS",
    "FUNCTIONS",
    "Expressions",
    "Function",
    "Functions",
    "Perceptron",
    "Spline",
    "Written",
    "evaluate_text",
    "gamma_of",
    "link",
]
