"""f(v; p) given as text: one small language for every text of a case, with first and second
derivatives.

A text is arithmetic in Python's notation. It is parsed, and the tree is turned into a graph of
whitelisted operations; nothing of it is ever run as code. With multipliers w_i for the outputs f_i
and directions d over all arguments a = (v, p):

    value f_i,   push sum_a f_i,a d_a,   pull sum_i w_i f_i,a,   second sum_ib w_i f_i,ab d_b.
"""

from __future__ import annotations

import ast
import functools
import keyword
import math
import re
import unicodedata
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.graph import Graph
from npde_opt.functions.operations import OPERATIONS

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
LOGIC: dict[type, str] = {ast.BitAnd: "and", ast.BitOr: "or", ast.And: "and", ast.Or: "or"}
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
            _short(repr(name)),
            f"a name of letters, digits and _, at most {NAME_LENGTH} characters",
        )
    if name in FUNCTIONS or name in CONSTANTS:
        raise InputError(field, repr(name), "a name that is no function or constant of texts")


def _is_plain(name: str) -> bool:
    if len(name) > NAME_LENGTH or not name.isidentifier():
        return False
    # Python's parser gives names in this form.
    normal = unicodedata.normalize("NFKC", name) == name
    return normal and not keyword.iskeyword(name) and not name.startswith("__")


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else text[:most] + "..."


class Parser:
    """Puts one text into a graph.

    Raises:
        InputError: for what is not in the language, naming the piece; for a text, nesting or number
            that is too large; for a constant that is not finite.
    """

    def __init__(self, graph: Graph, text: object, field: str):
        self.graph, self.field = graph, field
        self.places: dict[str, int] = {}
        """Where each name stands first, characters counted from 1."""
        if not isinstance(text, str):
            raise InputError(field, _short(repr(text)), "a text")
        if len(text) > LENGTH:
            raise InputError(field, f"a text of {len(text):,} characters", f"at most {LENGTH:,}")
        self.text = " ".join(text.split())
        self._check_brackets()

    def refuse(
        self, what: str, allowed: str = ALLOWED, at: ast.expr | int | None = None
    ) -> InputError:
        """The error. `at`: the piece that is wrong, or the character where it stands."""
        place = self._place(at) if isinstance(at, ast.expr) else at
        where = "in" if place is None else f"at character {place} of"
        return InputError(self.field, f"{what} {where} {_short(self.text)!r}", allowed)

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
                    "brackets too deep", f"at most {BRACKETS} brackets inside each other", place
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
                "no expression", f"an expression ({error.msg}) of {ALLOWED}", error.offset or None
            ) from None
        except (ValueError, MemoryError, RecursionError):
            raise InputError(
                self.field, repr(_short(self.text)), "an expression of plain characters, less deep"
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
                    "too many operations", f"at most {NODES:,} numbers, names and operations"
                )
        return found[tree]

    def _piece(self, node: ast.AST) -> str:
        return repr(_short(ast.get_source_segment(self.text, node) or type(node).__name__))

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
        if isinstance(node, ast.Compare) and all(type(op) in COMPARISONS for op in node.ops):
            return self._compared(node)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in FUNCTIONS
            and not node.keywords
        ):
            return node.args
        if (
            isinstance(node, ast.Name)
            or isinstance(node, ast.Constant)
            and type(node.value) in (int, float)
        ):
            return []
        hint = "where(condition, a, b), " if isinstance(node, ast.IfExp) else ""
        raise self.refuse(self._piece(node), hint + ALLOWED, node)

    def _compared(self, node: ast.Compare) -> list[ast.expr]:
        """What is compared. & | ~ bind tighter than comparisons: a < b & c < d is a < (b & c) < d,
        which nobody means."""
        sides = [node.left, *node.comparators]
        for side in sides:
            joined = isinstance(side, ast.BinOp) and type(side.op) in LOGIC
            if joined or isinstance(side, ast.UnaryOp) and isinstance(side.op, ast.Invert):
                raise self.refuse(
                    f"{self._piece(side)} in a comparison",
                    "brackets around comparisons: (a < b) & ~(c < d)",
                )
        return sides

    def _made(self, node: ast.expr, found: Mapping[ast.AST, int]) -> int:
        made = self._operation(node, [found[child] for child in self._children(node)])
        if self.graph.is_number(made) and not abs(self.graph.nodes[made].value) <= LARGEST:
            value = self.graph.nodes[made].value
            raise self.refuse(
                f"{value:g} from {self._piece(node)}", f"numbers up to {LARGEST:g}, finite", node
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
                g.negative(parts[0]) if isinstance(node.op, ast.USub) else g.apply("not", parts[0])
            )
        if isinstance(node, ast.BoolOp):
            return functools.reduce(lambda a, b: g.apply(LOGIC[type(node.op)], a, b), parts)
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
            raise self.refuse("an integer too large", f"numbers up to {LARGEST:g}", node) from None

    def _name(self, node: ast.Name) -> int:
        name = node.id
        if name in CONSTANTS:
            return self.graph.number(CONSTANTS[name])
        try:
            check_name(name, self.field)
        except InputError as error:
            raise self.refuse(str(error.value), error.allowed, node) from None
        place = self._place(node)
        self.places[name] = min(place, self.places.get(name, place))
        return self.graph.name(name)

    def _call(self, node: ast.Call, parts: Sequence[int]) -> int:
        assert isinstance(node.func, ast.Name)
        operation = FUNCTIONS[node.func.id]
        count = OPERATIONS[operation].arguments
        if len(parts) != count:
            raise self.refuse(
                self._piece(node), f"{count} argument{'s' * (count > 1)} of {node.func.id}", node
            )
        return self.graph.apply(operation, *parts)


class Expressions:
    """Several expressions of the same arguments.

    Args:
        texts: one text an output.
        variables: names of the leading arguments (species, coordinates); all other names are
            `parameters`.
        field: the key of the expressions in error messages, or one a text.
    """

    def __init__(
        self,
        texts: Sequence[str],
        variables: Sequence[str],
        field: str | Sequence[str] = "expression",
    ):
        self.texts, self._graph, self._variables = tuple(texts), Graph(), tuple(variables)
        fields = [field] * len(texts) if isinstance(field, str) else field
        self._parsers = [Parser(self._graph, t, f) for t, f in zip(texts, fields, strict=True)]
        self.outputs = [parser.parse() for parser in self._parsers]
        self.parameters = tuple(sorted(self._graph.names_of(self.outputs) - set(variables)))
        self.arguments = (*variables, *self.parameters)
        self._names = [self._graph.name(n) for n in self.arguments]

    def reads(self, name: str) -> bool:
        """Whether a text has this name, also where nothing depends on it ('1 + 0*t')."""
        return any(name in parser.places for parser in self._parsers)

    def check_names(self, given: Collection[str], said: str = "") -> None:
        """Raises InputError for a name that is neither a variable nor given, with the key, the text
        and its place there.

        Args:
            said: the names that are allowed, in words; default: a list of them.
        """
        known = [*self._variables, *sorted(set(given) - set(self._variables))]
        said = said or (f"the names {', '.join(known)}" if known else "no names")
        for parser in self._parsers:
            for name, place in sorted(parser.places.items(), key=lambda item: item[1]):
                if name not in known:
                    raise parser.refuse(
                        repr(name), f"{said}, and {ALLOWED.replace('names, ', '')}", place
                    )

    # names that no text can have: a text's name is an identifier

    def _multipliers(self) -> list[int]:
        return [self._graph.name(f"multiplier {i}") for i in range(len(self.outputs))]

    def _directions(self) -> list[int]:
        return [self._graph.name(f"direction {n}") for n in self.arguments]

    def _weighted(self, parts: Sequence[int]) -> int:
        g, total = self._graph, self._graph.number(0.0)
        for w, part in zip(self._multipliers(), parts, strict=True):
            total = g.add(total, g.multiply(w, part))
        return total

    def _pushed(self) -> list[int]:
        return self._graph.derivatives(
            self.outputs, dict(zip(self._names, self._directions(), strict=True))
        )

    def _slopes(self, nodes: Sequence[int]) -> list[list[int]]:
        """Derivatives of the nodes in each argument."""
        one = self._graph.number(1.0)
        return [self._graph.derivatives(nodes, {a: one}) for a in self._names]

    def _pulled(self) -> list[int]:
        return [self._weighted(parts) for parts in self._slopes(self.outputs)]

    def _pulled_change(self) -> list[int]:
        return [self._weighted(parts) for parts in self._slopes(self._pushed())]

    def code(self, what: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """The `value`, `push`, `pull` or `second` of scalars as Python: assignments, and one
        expression a result.

        `names` are those of the arguments (a..., and w... and d... where there are some), chosen by
        the caller: nothing of the text itself is in the code.
        """
        if what == "second":
            extra, results = [*self._multipliers(), *self._directions()], self._pulled_change()
        else:
            extra, results = {
                "value": ([], self.outputs),
                "push": (self._directions(), self._pushed()),
                "pull": (self._multipliers(), self._pulled()),
            }[what]
        return self._graph.code(dict(zip([*self._names, *extra], names, strict=True)), results)

    @functools.cached_property
    def value(self) -> Callable[..., list[Numbers]]:
        """(a...) -> f_i."""
        return self._graph.function(self._names, self.outputs)

    @functools.cached_property
    def push(self) -> Callable[..., list[Numbers]]:
        """(a..., d...) -> sum_a f_i,a d_a."""
        return self._graph.function([*self._names, *self._directions()], self._pushed())

    @functools.cached_property
    def pull(self) -> Callable[..., list[Numbers]]:
        """(a..., w...) -> sum_i w_i f_i,a, one an argument."""
        return self._graph.function([*self._names, *self._multipliers()], self._pulled())

    @functools.cached_property
    def second(self) -> Callable[..., list[Numbers]]:
        """(a..., w..., d...) -> sum_ib w_i f_i,ab d_b, one an argument."""
        names = [*self._names, *self._multipliers(), *self._directions()]
        return self._graph.function(names, self._pulled_change())

    @functools.cached_property
    def jacobian(self) -> Callable[..., list[Numbers]]:
        """(a...) -> f_i,a row by row: outputs times arguments values."""
        slopes = self._slopes(self.outputs)
        return self._graph.function(
            self._names, [part[i] for i in range(len(self.outputs)) for part in slopes]
        )

    def values_of(
        self, parameters: Coefficients, missing: float | None = None
    ) -> list[np.ndarray | float]:
        """The parameters' values in the order of the arguments; `missing` where one is not
        given."""
        return [
            parameters[n] if missing is None or n in parameters else missing
            for n in self.parameters
        ]


def _at(values: Numbers, place: Sequence[int]) -> float:
    """What broadcasts to a place of the whole array."""
    found = np.asarray(values)
    return float(found[tuple(min(i, n - 1) for i, n in zip(place, found.shape, strict=True))])


def evaluate_text(field: str, text: str, names: Mapping[str, Numbers]) -> Numbers:
    """The value of a text in arrays that broadcast together, or numbers, by name.

    Raises:
        InputError: for a text that is none, for other names, and for values that are not finite
            (how many, and the first place).
    """
    e = Expressions([text], tuple(names), field)
    e.check_names(())
    values = e.value(*names.values())[0]
    bad = np.broadcast_to(
        ~np.isfinite(values), np.broadcast_shapes(*[np.shape(x) for x in names.values()])
    )
    if np.any(bad):
        first = np.argwhere(bad)[0].tolist()
        places = [
            f"{n} = {_at(x, first):.6g}" for n, x in names.items() if np.ndim(x) == len(first)
        ]
        where = f", the first at {', '.join(places)}" if first and places else ""
        raise InputError(
            field,
            f"{_short(text)!r}, not finite in {int(np.sum(bad)):,} of {np.size(bad):,} "
            f"cells{where}",
            "finite values",
        )
    return values


def gamma_of(field: str, given: str | float) -> complex:
    """a + b i of a number or text: 'i', 'i*NUMBER' or 'NUMBERi'. Raises InputError for others."""
    text = re.sub(r"(?<=[0-9.])\s*i\b", "*i", str(given))
    values = [float(evaluate_text(field, text, {"i": k})) for k in (0.0, 1.0, 2.0)]
    real, imaginary = values[0], values[1] - values[0]
    if values[2] != real + 2 * imaginary:
        raise InputError(field, repr(given), "a number, 'i', 'i*NUMBER' or 'NUMBERi'")
    return complex(real, imaginary)
