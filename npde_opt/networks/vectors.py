"""Vectors of processors in compiled loops: sums of products that stay in registers.

numba compiles loops over values, whose sums go to memory and come from there at every term. Here
the instructions for a few cells, results and terms at once are given as LLVM's own, of which numba
makes loops like any other:

    combine   y_r(x) = sum_t W[first + r, t] u(at + o_t + x)          for r < results, x < n,
    gather    G[r, t] += sum_x y_r(x) u(at + o_t + x)                 for r < results, t < TERMS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

BYTES = 32
"""Of a vector: what most processors work on at once; others do it in parts."""
SUMS = 8
"""In registers at a time, of `combine`: as many as additions that are on their way at once."""
TERMS = 4
"""At a time, of `gather`."""

Value = Any
"""Of LLVM's, which has no types for Python's checkers, nor has numba."""
Builder = Any
"""Of LLVM's instructions."""
Kind = Any
"""numba's type of an argument."""
WHOLE = ir.IntType(64)


def _place(builder: Builder, kind: Value) -> Value:
    """Of a value, which is in a register where all is said."""
    place: Any = cgutils.alloca_once
    return place(builder, kind)


class Vectors:
    """Instructions for vectors of so many values.

    Args:
        real: LLVM's type of a value. size: its bytes.
    """

    def __init__(self, builder: Builder, real: Any, size: int, lanes: int):
        self.b, self.real, self.size, self.lanes = builder, real, size, lanes
        self.type = ir.VectorType(real, lanes)
        self._none = ir.Constant(self.type, [ir.Constant(real, 0.0)] * lanes)
        self._unknown = ir.Constant(self.type, ir.Undefined)
        index = ir.IntType(32)
        self._first = ir.Constant(index, 0)
        self._zeros = ir.Constant(ir.VectorType(index, lanes), [0] * lanes)

    def sums(self, count: int) -> list[Value]:
        """Places of sums, which are 0."""
        found = [_place(self.b, self.type) for _ in range(count)]
        for place in found:
            self.b.store(self._none, place)
        return found

    def _at(self, line: Value, place: Value) -> Value:
        return self.b.bitcast(self.b.gep(line, [place]), self.type.as_pointer())

    def load(self, line: Value, place: Value) -> Value:
        return self.b.load(self._at(line, place), align=self.size)

    def store(self, value: Value, line: Value, place: Value) -> None:
        self.b.store(value, self._at(line, place), align=self.size)

    def everywhere(self, line: Value, place: Value) -> Value:
        """One value in all lanes."""
        one = self.b.load(self.b.gep(line, [place]))
        first = self.b.insert_element(self._unknown, one, self._first)
        return self.b.shuffle_vector(first, self._unknown, self._zeros)

    def of_one(self) -> Vectors:
        """The same for values one by one."""
        return Vectors(self.b, self.real, self.size, 1)

    def from_on(self, value: Value, x: Value, begin: Value) -> Value:
        """0 in the lanes of cells before `begin`; x is the cell of the first lane."""
        if x is begin:
            return value
        skipped = self.b.sub(begin, x)
        index = ir.VectorType(WHOLE, self.lanes)
        first = self.b.insert_element(
            ir.Constant(index, ir.Undefined), skipped, self._first
        )
        skips = self.b.shuffle_vector(
            first, ir.Constant(index, ir.Undefined), self._zeros
        )
        lanes = ir.Constant(index, list(range(self.lanes)))
        return self.b.select(self.b.icmp_signed(">=", lanes, skips), value, self._none)

    def add_product(self, sum_: Value, one: Value, two: Value) -> None:
        """In one instruction where the processor has it."""
        product = self.b.fmul(one, two, flags=("contract",))
        found = self.b.fadd(self.b.load(sum_), product, flags=("contract",))
        self.b.store(found, sum_)

    def total(self, sum_: Value) -> Value:
        """Of all lanes, in double precision."""
        letters = {4: "f32", 8: "f64"}[self.size]
        kind = ir.FunctionType(self.real, [self.real, self.type])
        name = f"llvm.vector.reduce.fadd.v{self.lanes}{letters}"
        known: Any = cgutils.get_or_insert_function
        add = known(self.b.module, kind, name)
        none = ir.Constant(self.real, 0.0)
        found = self.b.call(add, [none, self.b.load(sum_)], fastmath=("reassoc",))
        return found if self.size == 8 else self.b.fpext(found, ir.DoubleType())


def _number(value: int) -> Value:
    return ir.Constant(WHOLE, value)


@contextmanager
def _blocks(builder: Builder, start: Value, end: Value, width: int) -> Iterator[Value]:
    """A loop over where whole blocks of this width begin."""
    count = builder.sdiv(builder.sub(end, start), _number(width))
    with cgutils.for_range(builder, count, intp=WHOLE) as loop:
        yield builder.add(start, builder.mul(loop.index, _number(width)))


def _rest(builder: Builder, start: Value, end: Value, width: int) -> Value:
    """Where such a loop leaves off."""
    return builder.sub(end, builder.srem(builder.sub(end, start), _number(width)))


class Combined(NamedTuple):
    """Arguments of `combine`, of arrays where their values are."""

    w: Value
    terms: Value
    """How many."""
    first: Value
    """Number of the first result."""
    offsets: Value
    u: Value
    at: Value
    """Where the row of u begins."""
    add: Value
    """Whether to add to what is there."""
    y: Value
    to: Value
    """Where the row of the first result begins."""
    step: Value
    """From there to that of the next result."""
    n: Value


class Gathered(NamedTuple):
    """Arguments of `gather`, of arrays where their values are: see `Combined`."""

    total: Value
    terms: Value
    first: Value
    offsets: Value
    term: Value
    """Number of the first term."""
    u: Value
    at: Value
    y: Value
    to: Value
    step: Value
    samples: Value
    u_sample: Value
    """From a sample to the next."""
    y_sample: Value
    rows: Value
    u_row: Value
    """From a row to the next."""
    y_row: Value
    n: Value


def _pointers(context: Any, builder: Builder, kinds: Sequence[Any], given: Any) -> Any:
    """Arguments, of arrays where their values are."""
    for kind, value in zip(kinds, given, strict=True):
        array = isinstance(kind, types.Array)
        yield context.make_array(kind)(context, builder, value).data if array else value


def _check(first: Kind, *others: Kind) -> None:
    """Raises TypingError, of numba, for arrays that the instructions would read as what they are
    not: of other numbers than the first one, or not one value after the other."""
    for kind in (first, *others):
        if (
            kind.dtype not in (types.float32, types.float64)
            or kind.dtype != first.dtype
        ):
            raise TypingError(f"{kind} beside {first}: numbers of one precision")
        if kind.layout != "C":
            raise TypingError(f"{kind}: an array in C order")


def _vectors(context: Any, builder: Builder, kind: Any) -> Vectors:
    """For values of numba's type of an array."""
    size = kind.dtype.bitwidth // 8
    return Vectors(builder, context.get_data_type(kind.dtype), size, BYTES // size)


def _combiner(results: int) -> Any:
    """combine of so many results."""

    @intrinsic
    def combine(
        _: Kind, w: Kind, terms: Kind, first: Kind, offsets: Kind, u: Kind, at: Kind, add: Kind,
        y: Kind, to: Kind, step: Kind, n: Kind,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Builder, signature: Any, given: Any) -> Any:
            made = Combined(*_pointers(context, builder, signature.args, given))
            _combine(_vectors(context, builder, u), results, made)
            return context.get_dummy_value()

        _check(u, w, y)
        whole = types.int64
        kinds = (w, whole, whole, offsets, u, whole, types.boolean, y, *[whole] * 3)
        return types.void(*kinds), code

    return combine


def _combine(v: Vectors, results: int, given: Combined) -> None:
    """Of all cells: several vectors at a time, then fewer, and the last one over again where cells
    are left, or these one by one."""
    b, end = v.b, given.n
    begin, count = _number(0), SUMS // results
    while count:
        with _blocks(b, begin, end, v.lanes * count) as x:
            _combine_block(v, count, results, x, x, given)
        begin = _rest(b, begin, end, v.lanes * count)
        count //= 2
    with b.if_then(b.icmp_signed("<", begin, end)):
        last = b.sub(end, _number(v.lanes))
        enough = b.icmp_signed(">=", last, _number(0))
        with b.if_else(enough) as (long, short):
            with long:
                _combine_block(v, 1, results, last, begin, given)
            with short, _blocks(b, begin, end, 1) as x:
                _combine_block(v.of_one(), 1, results, x, x, given)


def _combine_block(
    v: Vectors, count: int, results: int, x: Value, begin: Value, given: Combined
) -> None:
    """So many vectors from x on of all results; nothing is added to cells before `begin`."""
    b = v.b
    sums = [v.sums(count) for _ in range(results)]
    cells = [b.add(x, _number(i * v.lanes)) for i in range(count)]
    with cgutils.for_range(b, given.terms, intp=WHOLE) as loop:
        offset = b.load(b.gep(given.offsets, [loop.index]))
        here = b.add(given.at, offset)
        read = [v.load(given.u, b.add(here, cell)) for cell in cells]
        for r, row in enumerate(sums):
            line = b.mul(b.add(given.first, _number(r)), given.terms)
            weight = v.everywhere(given.w, b.add(line, loop.index))
            for sum_, value in zip(row, read, strict=True):
                v.add_product(sum_, weight, value)
    for r, row in enumerate(sums):
        line = b.add(given.to, b.mul(given.step, _number(r)))
        for sum_, cell in zip(row, cells, strict=True):
            place, found = b.add(line, cell), b.load(sum_)
            with b.if_else(given.add) as (more, new):
                with more:
                    added = v.from_on(found, cell, begin)
                    v.store(b.fadd(v.load(given.y, place), added), given.y, place)
                with new:
                    v.store(found, given.y, place)


def _gatherer(results: int) -> Any:
    """gather of so many results, over samples and rows; total is in double precision."""

    @intrinsic
    def gather(
        _: Kind, total: Kind, terms: Kind, first: Kind, offsets: Kind, term: Kind, u: Kind,
        at: Kind, y: Kind, to: Kind, step: Kind, samples: Kind, u_sample: Kind,
        y_sample: Kind, rows: Kind, u_row: Kind, y_row: Kind, n: Kind,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Builder, signature: Any, given: Any) -> Any:
            made = Gathered(*_pointers(context, builder, signature.args, given))
            v = _vectors(context, builder, u)
            enough = builder.icmp_signed(">=", made.n, _number(v.lanes))
            with builder.if_else(enough) as (long, short):
                with long:
                    _gather(v, results, made)
                with short:
                    _gather(v.of_one(), results, made)
            return context.get_dummy_value()

        _check(u, y)
        whole = types.int64
        kinds = (total, whole, whole, offsets, whole, u, whole, y, *[whole] * 9)
        return types.void(*kinds), code

    return gather


def _gather(v: Vectors, results: int, given: Gathered) -> None:
    """Of rows with as many cells as there are lanes, or more."""
    b = v.b
    sums = [v.sums(TERMS) for _ in range(results)]
    numbers = [b.add(given.term, _number(t)) for t in range(TERMS)]
    starts = [b.add(given.at, b.load(b.gep(given.offsets, [t]))) for t in numbers]
    lines = [b.add(given.to, b.mul(given.step, _number(r))) for r in range(results)]

    def add(u_at: Value, y_at: Value, x: Value, begin: Value) -> None:
        here, there = b.add(u_at, x), b.add(y_at, x)
        read = [v.load(given.u, b.add(start, here)) for start in starts]
        for row, line in zip(sums, lines, strict=True):
            value = v.from_on(v.load(given.y, b.add(line, there)), x, begin)
            for sum_, other in zip(row, read, strict=True):
                v.add_product(sum_, value, other)

    with (
        cgutils.for_range(b, given.samples, intp=WHOLE) as sample,
        cgutils.for_range(b, given.rows, intp=WHOLE) as row,
    ):
        s, j = sample.index, row.index
        u_at = b.add(b.mul(s, given.u_sample), b.mul(j, given.u_row))
        y_at = b.add(b.mul(s, given.y_sample), b.mul(j, given.y_row))
        with _blocks(b, _number(0), given.n, v.lanes) as x:
            add(u_at, y_at, x, x)
        begin = _rest(b, _number(0), given.n, v.lanes)
        # The last vector over again, without the cells that are counted.
        with b.if_then(b.icmp_signed("<", begin, given.n)):
            add(u_at, y_at, b.sub(given.n, _number(v.lanes)), begin)
    for r, found in enumerate(sums):
        line = b.mul(b.add(given.first, _number(r)), given.terms)
        for t, sum_ in zip(numbers, found, strict=True):
            entry = b.gep(given.total, [b.add(line, t)])
            b.store(b.fadd(b.load(entry), v.total(sum_)), entry)


combine_eight, combine_four = _combiner(8), _combiner(4)
combine_two, combine_one = _combiner(2), _combiner(1)
gather_two, gather_one = _gatherer(2), _gatherer(1)
