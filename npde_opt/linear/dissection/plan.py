"""The order in which a box's cells are eliminated, and where entries of its stencil go; made once a
grid.

Cells of the eight parts (parts.py) come first, all parts at once, each after nested dissection of
its own; the cells around a part, on separators, are the last rows of its pattern. Separators
follow, those between two parts first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from npde_opt.linear.dissection.parts import LANES, Cuts, cut
from npde_opt.machine_code import Kept

PATTERN = Kept("npde_opt.linear.dissection.loops", "pattern", returns=int)
LEAF = 4
"""Cells that are not cut further."""
Ranges = tuple[tuple[int, int], ...]


def ordered(shape: Sequence[int]) -> np.ndarray:
    """Cells of a box after nested dissection, as flat numbers."""
    found = list[np.ndarray]()
    _dissect(np.arange(int(np.prod(shape))).reshape(shape), found)
    return np.concatenate(found)


def _dissect(cells: np.ndarray, found: list[np.ndarray]) -> None:
    longest = max(cells.shape)
    if cells.size <= LEAF or longest < 3:
        found.append(cells.ravel())
        return
    middle, before = longest // 2, (slice(None),) * cells.shape.index(longest)
    _dissect(cells[(*before, slice(middle))], found)
    _dissect(cells[(*before, slice(middle + 1, None))], found)
    found.append(cells[(*before, middle)].ravel())


class Couplings:
    """Where the entries of a stencil stand: its diagonal, then by axis the couplings of every cell
    to the one after, then 0 and 1.

    Args:
        shape: cells along the axes.
    """

    def __init__(self, shape: Sequence[int], periodic: Sequence[bool]):
        self.shape, self.periodic = tuple(shape), tuple(periodic)
        self.size = int(np.prod(shape))
        self.zero = self.size * (1 + len(self.shape))
        self.one = self.zero + 1
        self.strides = [math.prod(self.shape[d + 1 :]) for d in range(len(shape))]
        self._beside: dict[tuple[int, int], np.ndarray] = {}

    def beside(self, cells: np.ndarray, axis: int, step: int) -> np.ndarray:
        """The neighbours of cells along an axis, -1 for none, also where a cell is -1."""
        if (axis, step) not in self._beside:
            numbers = np.arange(self.size).reshape(self.shape)
            known = np.roll(numbers, -step, axis)
            if not self.periodic[axis]:
                end = (slice(None),) * axis + (-1 if step > 0 else 0,)
                known[end] = -1
            # What is beside -1 stands last.
            self._beside[axis, step] = np.append(known, -1)
        found: np.ndarray = self._beside[axis, step][cells]
        return found

    def forget(self) -> None:
        """Frees what neighbours were looked up in."""
        self._beside.clear()

    def along(self, cells: np.ndarray, axis: int, step: int) -> np.ndarray:
        """Where the couplings to those neighbours stand; there are such."""
        lower = cells if step > 0 else self.beside(cells, axis, step)
        return self.size * (1 + axis) + lower


class Parts:
    """The eight parts as they are seen: one box of cells, and the cells around it.

    Attributes:
        count: cells of a part. cells [., lane]: those of all, in the order of elimination, with
            those around behind them; -1 for none.
        pattern: (starts, rows) of L. entries: (starts, rows, sources [., lane]) of A by column.
    """

    def __init__(self, cuts: Sequence[Cuts], couplings: Couplings):
        self.cuts = cuts
        shape = tuple(c.size for c in cuts)
        self.count = int(np.prod(shape))
        order = ordered(shape)
        wide = self._numbered(shape, order)
        self.size = int(wide.max()) + 1
        self.cells = self._cells(wide, couplings.strides, couplings.size)
        ends = self._neighbours(wide)
        self.entries = self._entries(ends, couplings)
        starts, rows, _ = self.entries
        # Behind the diagonal, which comes first in a column.
        own = starts[: self.count + 1] - np.arange(self.count + 1)
        behind = np.delete(rows[: starts[self.count]], starts[: self.count])
        padded = np.concatenate([own, np.full(self.size - self.count, own[-1])])
        self.pattern = self._pattern(padded, behind)

    def _pattern(
        self, starts: np.ndarray, behind: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        begins, room = np.empty(self.count + 1, np.int64), 16 * self.count
        while True:
            rows = np.empty(room + self.size, np.int32)
            links = np.empty((2, self.count), np.int64)
            seen = np.empty(self.size, np.int64)
            found = PATTERN(starts, behind, seen, links, begins, rows)
            if found >= 0:
                return begins, rows[:found].copy()
            room *= 2

    def _numbered(self, shape: tuple[int, ...], order: np.ndarray) -> np.ndarray:
        """Numbers by place, from -1 to t along all axes; -1 where nobody is coupled to."""
        wide = np.full([n + 2 for n in shape], -1)
        inner = tuple(slice(1, -1) for _ in shape)
        own = np.empty(self.count, np.int64)
        own[order] = np.arange(self.count)
        wide[inner] = own.reshape(shape)
        size = self.count
        for d, c in enumerate(self.cuts):
            for end, there in ((0, c.low), (-1, c.high)):
                if there:
                    at = inner[:d] + (end,) + inner[d + 1 :]
                    face = wide[at]
                    wide[at] = size + np.arange(face.size).reshape(face.shape)
                    size += face.size
        return wide

    def _cells(
        self, wide: np.ndarray, strides: Sequence[int], total: int
    ) -> np.ndarray:
        """Flat numbers of cells by number here and lane."""
        found = np.full((self.size, LANES), -1)
        known = wide >= 0
        number = wide[known]
        for lane, part in enumerate(product(*(range(c.parts) for c in self.cuts))):
            flat = np.zeros((), int)
            for c, p, stride in zip(self.cuts, part, strides, strict=True):
                at = c.places(p)
                # One that is outside along any axis is negative, whatever it is along others.
                flat = np.add.outer(flat, np.where(at < 0, -total, at * stride))
            found[number, lane] = np.maximum(flat[known], -1)
        return found

    def _neighbours(self, wide: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(axis, lower, upper) of all pairs."""
        found = []
        for d in range(wide.ndim):
            moved = np.moveaxis(wide, d, 0)
            lower, upper = moved[:-1].ravel(), moved[1:].ravel()
            both = (lower >= 0) & (upper >= 0)
            # Those around are coupled among each other in fronts.
            both &= (lower < self.count) | (upper < self.count)
            found.append((d, lower[both], upper[both]))
        return found

    def _entries(
        self, pairs: list[tuple[int, np.ndarray, np.ndarray]], couplings: Couplings
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = np.arange(self.count)
        centres = self.cells[: self.count]
        columns, rows = [own], [own]
        sources = [np.where(centres < 0, couplings.one, centres)]
        parts = list(product(*(range(c.parts) for c in self.cuts)))
        for d, a, b in pairs:
            columns.append(np.minimum(a, b))
            rows.append(np.maximum(a, b))
            found = np.full((a.size, LANES), couplings.zero)
            for lane, part in enumerate(parts):
                step = -1 if self.cuts[d].mirrored(part[d]) else 1
                one, other = self.cells[a, lane], self.cells[b, lane]
                there = (one >= 0) & (other >= 0)
                found[there, lane] = couplings.along(one[there], d, step)
            sources.append(found)
        column, row = np.concatenate(columns), np.concatenate(rows)
        order = np.lexsort((row, column))
        starts = np.zeros(self.size + 1, np.int64)
        starts[1:] = np.cumsum(np.bincount(column, minlength=self.size))
        return starts, row[order], np.concatenate(sources)[order]


@dataclass
class Node:
    """A separator: its own cells, and those around that come later."""

    own: np.ndarray
    around: np.ndarray
    parent: int = -1


class Separators:
    """Fronts of the separators, in the order of elimination.

    Attributes:
        order: their cells in that order.
        nodes: the fronts.
        parents: the front of each lane.
    """

    def __init__(self, cuts: Sequence[Cuts], parts: Parts, couplings: Couplings):
        self.cuts, self._couplings = cuts, couplings
        self._strides = couplings.strides
        self.nodes = list[Node]()
        self.parents = np.zeros(LANES, np.int64)
        self.number = np.full(couplings.size + 1, -1)
        self._count = 0
        self._inside = np.zeros(couplings.size + 1, bool)
        self._inside[parts.cells[: parts.count]] = True
        self._inside[-1] = True
        self._around = [
            np.unique(parts.cells[parts.count :, lane]) for lane in range(LANES)
        ]
        whole = tuple((0, c.parts) for c in cuts)
        _, lanes, nodes = self._descend(whole)
        seam = self._seam()
        if seam.size:
            self._node(seam, lanes, nodes)
        self.order = np.concatenate([n.own for n in self.nodes])

    def _descend(self, ranges: Ranges) -> tuple[np.ndarray, list[int], list[int]]:
        """Of a box of parts: the cells around, and lanes or nodes that hold it."""
        spans = [self._span(c, r) for c, r in zip(self.cuts, ranges, strict=True)]
        lengths = [
            (b - a) if r[1] - r[0] > 1 else 0
            for (a, b), r in zip(spans, ranges, strict=True)
        ]
        axis = int(np.argmax(lengths))
        if lengths[axis] == 0:
            place = [r[0] for r in ranges]
            lane = int(np.ravel_multi_index(place, [c.parts for c in self.cuts]))
            return self._around[lane], [lane], []
        first, last = ranges[axis]
        middle = (first + last) // 2
        lanes, nodes = list[int](), list[int]()
        for half in ((first, middle), (middle, last)):
            _, own, below = self._descend(ranges[:axis] + (half,) + ranges[axis + 1 :])
            lanes += own
            nodes += below
        c = self.cuts[axis]
        plane = c.planes[middle if c.periodic else middle - 1]
        spans[axis] = (plane, plane + 1)
        node = self._node(self._cells(spans), lanes, nodes)
        return self.nodes[node].around, [], [node]

    def _span(self, c: Cuts, parts: tuple[int, int]) -> tuple[int, int]:
        """Cells between the separators around some parts of an axis."""
        first, last = parts
        if c.periodic:
            end = c.planes[last] if last < c.parts else c.cells
            return c.planes[first] + 1, end
        begin = c.planes[first - 1] + 1 if first else 0
        return begin, c.planes[last - 1] if last < c.parts else c.cells

    def _cells(self, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        along = [
            np.arange(a, b) * s for (a, b), s in zip(spans, self._strides, strict=True)
        ]
        found = along[0]
        for further in along[1:]:
            found = np.add.outer(found, further)
        return found.ravel()

    def _seam(self) -> np.ndarray:
        """Cells 0 of periodic axes."""
        found = [np.empty(0, np.int64)]
        for d, c in enumerate(self.cuts):
            if c.periodic:
                spans = [(0, 1 if e == d else o.cells) for e, o in enumerate(self.cuts)]
                found.append(self._cells(spans))
        return np.unique(np.concatenate(found))

    def _node(self, own: np.ndarray, lanes: Sequence[int], nodes: Sequence[int]) -> int:
        """Adds a front behind those of lanes and nodes."""
        self.number[own] = self._count + np.arange(own.size)
        self._count += own.size
        near = [
            self._couplings.beside(own, d, step)
            for d in range(len(self.cuts))
            for step in (-1, 1)
        ]
        near += [self._around[lane] for lane in lanes]
        near += [self.nodes[node].around for node in nodes]
        around = np.unique(np.concatenate(near))
        around = around[~self._inside[around] & (self.number[around] < 0)]
        for lane in lanes:
            self.parents[lane] = len(self.nodes)
        for node in nodes:
            self.nodes[node].parent = len(self.nodes)
        self.nodes.append(Node(own, around))
        return len(self.nodes) - 1


class Plan:
    """Of a box.

    Args:
        shape: cells along the axes, the last one fastest; one that `cut` takes.

    Attributes:
        couplings: where values stand. entries: numbers that factors have.
    """

    def __init__(self, shape: Sequence[int], periodic: Sequence[bool]):
        cuts = cut(shape, periodic)
        if cuts is None:
            raise ValueError(f"no order for a box of {tuple(shape)} cells")
        self.couplings = Couplings(shape, periodic)
        self.parts = Parts(cuts, self.couplings)
        self.separators = Separators(cuts, self.parts, self.couplings)
        self._fronts()
        self.couplings.forget()

    def _fronts(self) -> None:
        """The tables of loops.py."""
        nodes, number = self.separators.nodes, self.separators.number
        fronts, rows, maps = list[list[int]](), list[np.ndarray](), list[np.ndarray]()
        places, sources = list[np.ndarray](), list[np.ndarray]()
        at = row = mapped = 0
        own_rows = [
            np.concatenate([number[n.own], np.sort(number[n.around])]) for n in nodes
        ]
        for node, own in zip(nodes, own_rows, strict=True):
            p, m = node.own.size, own.size
            fronts.append([p, m, at, row, node.parent, mapped])
            rows.append(own)
            if node.parent >= 0:
                maps.append(np.searchsorted(own_rows[node.parent], own[p:]))
            step = -(-m // LANES)
            where, source = self._front_entries(node.own, own, LANES * step)
            places.append(LANES * at + where)
            sources.append(source)
            # Columns are taken four at a time: room behind them.
            at, row, mapped = at + (m + 4) * step, row + m, mapped + m - p
        self.fronts = np.array(fronts, np.int64)
        self.rows, self.size = np.concatenate(rows), at
        self.maps = np.concatenate([np.empty(0, np.int64), *maps])
        self.front_entries = np.concatenate(places), np.concatenate(sources)
        around = self.parts.cells[self.parts.count :]
        self.around = np.where(around < 0, self.separators.order.size, number[around])
        self.into = np.full(around.shape, -1)
        for lane, parent in enumerate(self.separators.parents):
            there = around[:, lane] >= 0
            self.into[there, lane] = np.searchsorted(
                own_rows[parent], number[around[there, lane]]
            )
        # In vectors.
        self.largest = -(-int(self.fronts[:, 1].max()) // LANES)

    def _front_entries(
        self, own: np.ndarray, rows: np.ndarray, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(places, sources) in a front whose rows have these numbers."""
        number = self.separators.number
        local = np.arange(own.size)
        places, sources = [local * width + local], [own]
        for d in range(len(self.couplings.shape)):
            for step in (-1, 1):
                beside = self.couplings.beside(own, d, step)
                later = (beside >= 0) & (number[beside] > number[own])
                where = np.searchsorted(rows, number[beside[later]])
                places.append(local[later] * width + where)
                sources.append(self.couplings.along(own[later], d, step))
        return np.concatenate(places), np.concatenate(sources)
