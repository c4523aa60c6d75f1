"""f(v; p) given as text: one small language for every text of a case, with first and second
derivatives.

With multipliers w_i for the outputs f_i and directions d over all arguments a = (v, p):

    value f_i,   push sum_a f_i,a d_a,   pull sum_i w_i f_i,a,   second sum_ib w_i f_i,ab d_b.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from npde_opt.aliases import Coefficients, Numbers
from npde_opt.errors import InputError
from npde_opt.functions.calls import CallNodes, Part, points_of, shares, spread
from npde_opt.functions.graph import Graph
from npde_opt.functions.interface import Function
from npde_opt.functions.parser import ALLOWED, Functions, Parser, shortened


class Expressions:
    """Several expressions of the same arguments.

    Args:
        texts: one text an output.
        variables: names of the leading arguments (species, coordinates); all other names are
            `parameters`.
        field: the key of the expressions in error messages, or one a text.
        functions: that texts may call, by name. Their numbers are parameters of that name, arrays
            (count,), and cotangents of these are `Spread`: see `cotangents`.

    Attributes:
        functions: those that are called.
    """

    def __init__(
        self,
        texts: Sequence[str],
        variables: Sequence[str],
        field: str | Sequence[str] = "expression",
        functions: Functions | None = None,
    ):
        self.texts, self._graph, self._variables = (
            tuple(texts),
            Graph(),
            tuple(variables),
        )
        fields = [field] * len(texts) if isinstance(field, str) else field
        self._parsers = [
            Parser(self._graph, t, f, functions)
            for t, f in zip(texts, fields, strict=True)
        ]
        self.outputs = [parser.parse() for parser in self._parsers]
        self.parameters = tuple(
            sorted(self._graph.names_of(self.outputs) - set(variables))
        )
        self.arguments = (*variables, *self.parameters)
        self._names = [self._graph.name(n) for n in self.arguments]
        self.functions: dict[str, Function] = {}
        for name, function in (functions or {}).items():
            if name in self.parameters and isinstance(function, Function):
                self.functions[name] = function

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
                        repr(name),
                        f"{said}, and {ALLOWED.replace('names, ', '')}",
                        place,
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
        """Derivatives of the nodes in each argument; 0 in the numbers of functions."""
        one, zero = self._graph.number(1.0), self._graph.number(0.0)
        named = zip(self.arguments, self._names, strict=True)
        return [
            [zero] * len(nodes)
            if n in self.functions
            else self._graph.derivatives(nodes, {a: one})
            for n, a in named
        ]

    def _pulled(self) -> list[int]:
        return [self._weighted(parts) for parts in self._slopes(self.outputs)]

    def _pulled_change(self) -> list[int]:
        return [self._weighted(parts) for parts in self._slopes(self._pushed())]

    def code(self, what: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """The `value`, `push`, `pull` or `second` of scalars, or the `jacobian` in the variables,
        as Python: assignments, and one expression a result.

        `names` are those of the arguments (a..., and w... and d... where there are some), chosen by
        the caller: nothing of the text itself is in the code.
        """
        if what == "second":
            extra, results = (
                [*self._multipliers(), *self._directions()],
                self._pulled_change(),
            )
        else:
            extra, results = {
                "value": ([], self.outputs),
                "push": (self._directions(), self._pushed()),
                "pull": (self._multipliers(), self._pulled()),
                "jacobian": ([], self._rows(len(self._variables))),
            }[what]
        return self._graph.code(
            dict(zip([*self._names, *extra], names, strict=True)), results
        )

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
        return self._graph.function(
            [*self._names, *self._multipliers()], self._pulled()
        )

    @functools.cached_property
    def second(self) -> Callable[..., list[Numbers]]:
        """(a..., w..., d...) -> sum_ib w_i f_i,ab d_b, one an argument."""
        names = [*self._names, *self._multipliers(), *self._directions()]
        return self._graph.function(names, self._pulled_change())

    @functools.cached_property
    def cotangents(self) -> Callable[..., Sequence[Part]]:
        """(a..., w...) -> as `pull`, with the numbers of functions: theirs are a `Spread` each."""
        if not self.functions:
            return self.pull
        return self._spread(
            self._pulled(), self._weighted(self.outputs), self._multipliers()
        )

    @functools.cached_property
    def cotangent_changes(self) -> Callable[..., Sequence[Part]]:
        """(a..., w..., d...) -> as `second`, with the numbers of functions."""
        if not self.functions:
            return self.second
        extra = [*self._multipliers(), *self._directions()]
        return self._spread(
            self._pulled_change(), self._weighted(self._pushed()), extra
        )

    def _spread(
        self, pulled: Sequence[int], total: int, extra: Sequence[int]
    ) -> Callable[..., Sequence[Part]]:
        """The nodes `pulled`, but the derivatives of the node `total` in the numbers of
        functions."""
        calls = {i: shares(self._graph, total, n) for i, n in self._numbers()}
        results = [
            *pulled,
            *(k for parts in calls.values() for c in parts for k in _nodes(c)),
        ]
        evaluate = self._graph.function([*self._names, *extra], results)

        def cotangents(*values: Numbers) -> Sequence[Part]:
            computed = evaluate(*values)
            found = dict(zip(results, computed, strict=True))
            parts: list[Part] = list(computed[: len(pulled)])
            for i, nodes in calls.items():
                parts[i] = spread(np.asarray(values[i]), nodes, found)
            return parts

        return cotangents

    def _numbers(self) -> list[tuple[int, str]]:
        """Arguments that are the numbers of functions, by their place."""
        return [(i, n) for i, n in enumerate(self.arguments) if n in self.functions]

    @functools.cached_property
    def points(self) -> Callable[..., dict[str, list[list[Numbers]]]]:
        """(a...) -> the values of the variables with which each function is called, call by
        call."""
        nodes = {n: points_of(self._graph, self.outputs, n) for n in self.functions}
        flat = [k for calls in nodes.values() for variables in calls for k in variables]
        evaluate = self._graph.function(self._names, flat)

        def called(*values: Numbers) -> dict[str, list[list[Numbers]]]:
            found = iter(evaluate(*values))
            return {
                n: [[next(found) for _ in variables] for variables in calls]
                for n, calls in nodes.items()
            }

        return called

    @functools.cached_property
    def jacobian(self) -> Callable[..., list[Numbers]]:
        """(a...) -> f_i,a row by row: outputs times arguments values."""
        return self._graph.function(self._names, self._rows(len(self.arguments)))

    @functools.cached_property
    def slopes(self) -> Callable[..., list[Numbers]]:
        """(a...) -> f_i,a row by row, in the variables alone."""
        return self._graph.function(self._names, self._rows(len(self._variables)))

    def _rows(self, count: int) -> list[int]:
        """f_i,a of the leading arguments, row by row."""
        slopes = self._slopes(self.outputs)[:count]
        return [part[i] for i in range(len(self.outputs)) for part in slopes]

    def values_of(
        self, parameters: Coefficients, missing: float | None = None
    ) -> list[np.ndarray | float]:
        """The parameters' values in the order of the arguments; `missing` where one is not
        given."""
        return [
            parameters[n] if missing is None or n in parameters else missing
            for n in self.parameters
        ]


def _nodes(call: CallNodes) -> list[int]:
    found = [call.at, call.weight]
    return found if call.direction is None else [*found, call.direction]


def _at(values: Numbers, place: Sequence[int]) -> float:
    """What broadcasts to a place of the whole array."""
    found = np.asarray(values)
    return float(
        found[tuple(min(i, n - 1) for i, n in zip(place, found.shape, strict=True))]
    )


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
        ~np.isfinite(values),
        np.broadcast_shapes(*[np.shape(x) for x in names.values()]),
    )
    if np.any(bad):
        first = np.argwhere(bad)[0].tolist()
        places = [
            f"{n} = {_at(x, first):.6g}"
            for n, x in names.items()
            if np.ndim(x) == len(first)
        ]
        where = f", the first at {', '.join(places)}" if first and places else ""
        raise InputError(
            field,
            f"{shortened(text)!r}, not finite in {int(np.sum(bad)):,} of {np.size(bad):,} "
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
