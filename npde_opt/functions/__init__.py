"""Functions given as text: a small language of arithmetic, with derivatives."""

from npde_opt.functions.text import CONSTANTS, FUNCTIONS, Expressions, evaluate_text, gamma_of

__all__ = ["CONSTANTS", "FUNCTIONS", "Expressions", "evaluate_text", "gamma_of"]
