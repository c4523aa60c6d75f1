"""Functions in equations: texts, a small language of arithmetic, and splines and perceptrons with
numbers that may be sought, which texts call; all with derivatives."""

from npde_opt.functions.interface import Function
from npde_opt.functions.links import link
from npde_opt.functions.parser import CONSTANTS, FUNCTIONS, Functions, Written
from npde_opt.functions.perceptron import Perceptron
from npde_opt.functions.spline import Spline
from npde_opt.functions.text import Expressions, evaluate_text, gamma_of

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
