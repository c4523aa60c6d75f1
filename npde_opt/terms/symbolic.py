"""f(v; p) given as text, its first and second derivatives taken symbolically and compiled to vectorised code.

With multipliers w_i for the outputs f_i and directions d over all arguments a = (v, p):
    value f_i,   push sum_a f_i,a d_a,   pull sum_i w_i f_i,a,   second sum_ib w_i f_i,ab d_b.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from npde_opt.errors import InputError

if TYPE_CHECKING:
    import sympy

FUNCTIONS = ("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "cosh", "sinh", "atan")
OPERATORS: dict[type, Callable] = {ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
                                   ast.Div: lambda a, b: a / b, ast.Pow: lambda a, b: a**b}


def _sympy() -> Any:
    """Imported where it is first needed: it takes longer to load than all else together."""
    import sympy

    return sympy


def parse(text: str, field: str = "expression") -> sympy.Expr:
    """The expression of a text in Python's notation; nothing is evaluated but numbers, names, + - * / ** and FUNCTIONS.

    Raises:
        InputError: for anything else, naming what it was.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise InputError(field, repr(text), f"an expression ({error.msg})") from error
    return _sympy().sympify(_convert(tree.body, text, field))


def _convert(node: ast.AST, text: str, field: str) -> sympy.Expr:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_convert(node.left, text, field), _convert(node.right, text, field))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _convert(node.operand, text, field)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _sympy().Integer(node.value) if isinstance(node.value, int) else _sympy().Float(node.value)
    if isinstance(node, ast.Name):
        return _sympy().pi if node.id == "pi" else _sympy().Symbol(node.id, real=True)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords:
        return getattr(_sympy(), node.func.id)(*[_convert(a, text, field) for a in node.args])
    raise InputError(field, f"{ast.unparse(node)!r} in {text!r}", "numbers, names, + - * / ** and "
                     + ", ".join(FUNCTIONS))


class Expressions:
    """Several expressions of the same arguments.

    Args:
        texts: one text an output.
        variables: names of the leading arguments (species, coordinates); all other names are `parameters`.
        field: what to call the expressions in error messages.
    """

    def __init__(self, texts: Sequence[str], variables: Sequence[str], field: str = "expression"):
        self.texts, self.field = tuple(texts), field
        self.outputs = [parse(t, field) for t in texts]
        names = sorted({s.name for f in self.outputs for s in f.free_symbols} - set(variables))
        self.parameters = tuple(names)
        self.arguments = (*variables, *names)
        self._symbols = [_sympy().Symbol(n, real=True) for n in self.arguments]

    def _multipliers(self) -> list[sympy.Symbol]:
        return [_sympy().Symbol(f"multiplier{i}_", real=True) for i in range(len(self.outputs))]

    def _directions(self) -> list[sympy.Symbol]:
        return [_sympy().Symbol(f"d_{n}_", real=True) for n in self.arguments]

    def _compile(self, extra: Sequence[sympy.Symbol], results: Sequence[sympy.Expr]) -> Callable:
        """Silent where a value is not defined: who uses the values looks whether they are finite."""
        found = _sympy().lambdify([*self._symbols, *extra], list(results), modules="numpy", cse=True)
        return np.errstate(divide="ignore", invalid="ignore", over="ignore")(found)

    def code(self, what: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """The `value`, `push` or `pull` of scalars as Python: assignments of common parts, and one expression a result; `names`
        are those of the arguments (a..., and d... or w...)."""
        from sympy.printing.pycode import PythonCodePrinter

        extra, results = {"value": ([], self.outputs), "push": (self._directions(), self._pushed()),
                          "pull": (self._multipliers(), self._pulled())}[what]
        safe = {old: _sympy().Symbol(new, real=True) for old, new in zip([*self._symbols, *extra], names, strict=True)}
        common, results = _sympy().cse([r.subs(safe, simultaneous=True) for r in results],
                                       _sympy().numbered_symbols("c_", real=True))
        printer = PythonCodePrinter({"fully_qualified_modules": True})
        return [f"{name} = {printer.doprint(e)}" for name, e in common], [printer.doprint(e) for e in results]

    def _pushed(self) -> list[sympy.Expr]:
        d = self._directions()
        return [sum((f.diff(a) * x for a, x in zip(self._symbols, d, strict=True)), _sympy().Integer(0))
                for f in self.outputs]

    def _pulled(self) -> list[sympy.Expr]:
        return [self._weighted(self._multipliers()).diff(a) for a in self._symbols]

    @functools.cached_property
    def value(self) -> Callable[..., list]:
        """(a...) -> f_i."""
        return self._compile([], self.outputs)

    @functools.cached_property
    def push(self) -> Callable[..., list]:
        """(a..., d...) -> sum_a f_i,a d_a."""
        return self._compile(self._directions(), self._pushed())

    @functools.cached_property
    def pull(self) -> Callable[..., list]:
        """(a..., w...) -> sum_i w_i f_i,a, one an argument."""
        return self._compile(self._multipliers(), self._pulled())

    @functools.cached_property
    def second(self) -> Callable[..., list]:
        """(a..., w..., d...) -> sum_ib w_i f_i,ab d_b, one an argument."""
        w, d = self._multipliers(), self._directions()
        slope = sum((self._weighted(w).diff(a) * x for a, x in zip(self._symbols, d, strict=True)), _sympy().Integer(0))
        return self._compile([*w, *d], [slope.diff(a) for a in self._symbols])

    @functools.cached_property
    def jacobian(self) -> Callable[..., list]:
        """(a...) -> f_i,a row by row: outputs times arguments values."""
        return self._compile([], [f.diff(a) for f in self.outputs for a in self._symbols])

    def _weighted(self, w: Sequence[sympy.Symbol]) -> sympy.Expr:
        return sum((x * f for x, f in zip(w, self.outputs, strict=True)), _sympy().Integer(0))

    def values_of(self, parameters: Mapping[str, np.ndarray], missing: float | None = None) -> list[np.ndarray | float]:
        """The parameters' values in the order of the arguments; `missing` where one is not given."""
        return [parameters[n] if missing is None or n in parameters else missing for n in self.parameters]
