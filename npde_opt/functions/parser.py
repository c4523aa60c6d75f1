"""Texts of the language as nodes of a graph.

A text is parsed by Python, and its tree is turned into a graph of whitelisted operations: nothing
of it is ever run as code.
"""

from __future__ import annotations

import ast
import functools
import keyword
import math
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npde_opt.errors import InputError
from npde_opt.functions.calls import called
from npde_opt.functions.graph import Graph
from npde_opt.functions.interface import Function
from npde_opt.functions.operations import OPERATIONS
from npde_opt.packages import difflib

CONSTANTS = {"pi": math.pi}
FUNCTIONS = {
    **{
        name: name
        for name in (
            "exp",
            "log",
            "sqrt",
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "tanh",
            "abs",
            "sign",
            "floor",
            "where",
            "minimum",
            "maximum",
            "atan",
            "atan2",
        )
    },
    "arctan": "atan",
    "arctan2": "atan2",
    "min": "minimum",
    "max": "maximum",
}
"""Names of functions, and the operations that they are."""

ARITHMETIC: dict[type, str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
}
LOGIC: dict[type, str] = {
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.And: "and",
    ast.Or: "or",
}
COMPARISONS: dict[type, str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}

LENGTH, BRACKETS, NODES, NAME_LENGTH = 2000, 50, 1000, 50
LARGEST, LARGEST_EXPONENT = 1e150, 1000.0
ALLOWED = (
    "numbers, names, + - * / // % **, < <= > >= == !=, & | ~ (and, or, not), pi and the functions "
    + ", ".join(FUNCTIONS)
)


def check_name(name: object, field: str) -> None:
    """Raises InputError unless `name` can stand in a text: a plain identifier that is neither a
    function nor a constant."""
    if not isinstance(name, str) or not _is_plain(name):
        raise InputError(
            field,
            shortened(repr(name)),
            f"a name of letters, digits and _, at most {NAME_LENGTH} characters",
        )
    if name in FUNCTIONS or name in CONSTANTS:
        raise InputError(
            field, repr(name), "a name that is no function or constant of texts"
        )


def _is_plain(name: str) -> bool:
    if len(name) > NAME_LENGTH or not name.isidentifier():
        return False
    # Python's parser gives names in this form.
    normal = unicodedata.normalize("NFKC", name) == name
    return normal and not keyword.iskeyword(name) and not name.startswith("__")


def shortened(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[:most] + "..."


@dataclass(frozen=True)
class Written:
    """A function that is a text itself, in the names of its variables."""

    names: tuple[str, ...]
    text: str

    @property
    def variables(self) -> int:
        return len(self.names)

    def node(self, graph: Graph, field: str, variables: Sequence[int]) -> int:
        """Its node at nodes. Raises InputError for a text that is none."""
        own = Parser(graph, self.text, field).parse()
        given = [graph.name(name) for name in self.names]
        return graph.substitute([own], dict(zip(given, variables, strict=True)))[0]


Functions = Mapping[str, Function | Written]
"""What texts may call, by name."""


class Parser:
    """Puts one text into a graph.

    Args:
        field: its key in error messages.
        functions: that it may call beside those of the language, by name.

    Raises:
        InputError: for what is not in the language, naming the piece; for a text, nesting or number
            that is too large; for a constant that is not finite.
    """

    def __init__(
        self,
        graph: Graph,
        text: object,
        field: str,
        functions: Functions | None = None,
    ):
        self.graph, self.field, self.functions = graph, field, functions or {}
        self.places: dict[str, int] = {}
        """Where each name stands first, characters counted from 1."""
        if not isinstance(text, str):
            raise InputError(field, shortened(repr(text)), "a text")
        if len(text) > LENGTH:
            raise InputError(
                field, f"a text of {len(text):,} characters", f"at most {LENGTH:,}"
            )
        self.text = " ".join(text.split())
        self._check_brackets()

    def refuse(
        self, what: str, allowed: str = ALLOWED, at: ast.expr | int | None = None
    ) -> InputError:
        """The error. `at`: the piece that is wrong, or the character where it stands."""
        place = self._place(at) if isinstance(at, ast.expr) else at
        where = "in" if place is None else f"at character {place} of"
        return InputError(
            self.field, f"{what} {where} {shortened(self.text)!r}", allowed
        )

    def _place(self, node: ast.expr) -> int:
        """The character at which a node starts, from 1; Python's parser counts bytes."""
        before = self.text.encode()[: node.col_offset]
        return len(before.decode()) + 1

    def _check_brackets(self) -> None:
        """Before Python's parser sees the text."""
        depth = 0
        for place, c in enumerate(self.text, start=1):
            depth += (c in "([{") - (c in ")]}")
            if depth > BRACKETS:
                raise self.refuse(
                    "brackets too deep",
                    f"at most {BRACKETS} brackets inside each other",
                    place,
                )
            if c in "#'\"\\`;":
                raise self.refuse(repr(c), at=place)

    def parse(self) -> int:
        """The node of the text."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            raise self.refuse(
                "no expression",
                f"an expression ({error.msg}) of {ALLOWED}",
                error.offset or None,
            ) from None
        except (ValueError, MemoryError, RecursionError):
            raise InputError(
                self.field,
                repr(shortened(self.text)),
                "an expression of plain characters, less deep",
            ) from None
        return self._convert(tree)

    def _convert(self, tree: ast.expr) -> int:
        """Children first, without recursion: the depth of a tree is that of a long sum."""
        found: dict[ast.AST, int] = {}
        stack: list[tuple[ast.expr, bool]] = [(tree, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                found[node] = self._made(node, found)
                continue
            stack.append((node, True))
            stack += [(child, False) for child in self._children(node)]
            if len(found) + len(stack) > NODES:
                raise self.refuse(
                    "too many operations",
                    f"at most {NODES:,} numbers, names and operations",
                )
        return found[tree]

    def _piece(self, node: ast.AST) -> str:
        return repr(
            shortened(ast.get_source_segment(self.text, node) or type(node).__name__)
        )

    def _children(self, node: ast.expr) -> list[ast.expr]:
        """What a node of the language is made of. Raises InputError for any other node."""
        if isinstance(node, ast.BinOp) and type(node.op) in {
            *ARITHMETIC,
            *LOGIC,
            ast.Mod,
            ast.FloorDiv,
        }:
            return [node.left, node.right]
        if isinstance(node, ast.UnaryOp):
            return [node.operand]
        if isinstance(node, ast.BoolOp):
            return node.values
        if isinstance(node, ast.Compare) and all(
            type(op) in COMPARISONS for op in node.ops
        ):
            return self._compared(node)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and (node.func.id in FUNCTIONS or node.func.id in self.functions)
            and not node.keywords
        ):
            return node.args
        if (
            isinstance(node, ast.Name)
            or isinstance(node, ast.Constant)
            and type(node.value) in (int, float)
        ):
            return []
        hint = self._hint(node)
        own = ", ".join(self.functions)
        raise self.refuse(
            self._piece(node), hint + ALLOWED + (own and f", {own}"), node
        )

    def _hint(self, node: ast.expr) -> str:
        """What was perhaps meant by a node that is not of the language."""
        if isinstance(node, ast.IfExp):
            return "where(condition, a, b), "
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            return "a**b for a power, "
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            known = [*FUNCTIONS, *self.functions]
            near = difflib.get_close_matches(node.func.id, known, 1)
            return f"{near[0]}(...), " if near else ""
        return ""

    def _compared(self, node: ast.Compare) -> list[ast.expr]:
        """What is compared. & | ~ bind tighter than comparisons: a < b & c < d is a < (b & c) < d,
        which nobody means."""
        sides = [node.left, *node.comparators]
        for side in sides:
            joined = isinstance(side, ast.BinOp) and type(side.op) in LOGIC
            if (
                joined
                or isinstance(side, ast.UnaryOp)
                and isinstance(side.op, ast.Invert)
            ):
                raise self.refuse(
                    f"{self._piece(side)} in a comparison",
                    "brackets around comparisons: (a < b) & ~(c < d)",
                )
        return sides

    def _made(self, node: ast.expr, found: Mapping[ast.AST, int]) -> int:
        made = self._operation(node, [found[child] for child in self._children(node)])
        if (
            self.graph.is_number(made)
            and not abs(self.graph.nodes[made].value) <= LARGEST
        ):
            value = self.graph.nodes[made].value
            raise self.refuse(
                f"{value:g} from {self._piece(node)}",
                f"numbers up to {LARGEST:g}, finite",
                node,
            )
        return made

    def _operation(self, node: ast.expr, parts: Sequence[int]) -> int:
        g = self.graph
        if isinstance(node, ast.Constant):
            return self._number(node)
        if isinstance(node, ast.Name):
            return self._name(node)
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.UAdd):
                return parts[0]
            return (
                g.negative(parts[0])
                if isinstance(node.op, ast.USub)
                else g.apply("not", parts[0])
            )
        if isinstance(node, ast.BoolOp):
            return functools.reduce(
                lambda a, b: g.apply(LOGIC[type(node.op)], a, b), parts
            )
        if isinstance(node, ast.Compare):
            pairs = zip(node.ops, parts[:-1], parts[1:], strict=True)
            return functools.reduce(
                lambda a, b: g.apply("and", a, b),
                [g.apply(COMPARISONS[type(op)], a, b) for op, a, b in pairs],
            )
        if isinstance(node, ast.Call):
            return self._call(node, parts)
        assert isinstance(node, ast.BinOp)
        return self._binary(node, *parts)

    def _binary(self, node: ast.BinOp, a: int, b: int) -> int:
        g, kind = self.graph, type(node.op)
        if kind in LOGIC:
            return g.apply(LOGIC[kind], a, b)
        if kind is ast.Mod:
            return g.apply("%", a, b)
        if kind is ast.FloorDiv:
            return g.apply("floor", g.divide(a, b))
        if (
            kind is ast.Pow
            and g.is_number(b)
            and not abs(g.nodes[b].value) <= LARGEST_EXPONENT
            and not g.is_number(a)
        ):
            raise self.refuse(
                f"the exponent {self._piece(node.right)}",
                f"exponents up to {LARGEST_EXPONENT:g}",
                node.right,
            )
        found: int = getattr(g, ARITHMETIC[kind])(a, b)
        return found

    def _number(self, node: ast.Constant) -> int:
        try:
            return self.graph.number(float(node.value))  # type: ignore[arg-type]
        except OverflowError:
            raise self.refuse(
                "an integer too large", f"numbers up to {LARGEST:g}", node
            ) from None

    def _name(self, node: ast.Name) -> int:
        name = node.id
        if name in CONSTANTS:
            return self.graph.number(CONSTANTS[name])
        try:
            check_name(name, self.field)
        except InputError as error:
            raise self.refuse(str(error.value), error.allowed, node) from None
        if name in self.functions:
            own = f"its value, {name}(...), of {self._counted(self.functions[name].variables)}"
            raise self.refuse(f"the function {name!r} without arguments", own, node)
        place = self._place(node)
        self.places[name] = min(place, self.places.get(name, place))
        return self.graph.name(name)

    def _call(self, node: ast.Call, parts: Sequence[int]) -> int:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        own = self.functions.get(name)
        count = OPERATIONS[FUNCTIONS[name]].arguments if own is None else own.variables
        if len(parts) != count:
            raise self.refuse(
                self._piece(node), f"{self._counted(count)} of {name}", node
            )
        if own is None:
            return self.graph.apply(FUNCTIONS[name], *parts)
        if isinstance(own, Written):
            return own.node(self.graph, self.field, parts)
        return called(self.graph, name, own, parts)

    @staticmethod
    def _counted(arguments: int) -> str:
        return f"{arguments} argument{'s' * (arguments > 1)}"
