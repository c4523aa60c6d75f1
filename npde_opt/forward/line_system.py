"""M + alpha_k A of an evolution along a line, with the factors of all step sizes, and all of its
steps in one compiled call (see line_loops.py).

Unknowns go cell by cell, in a cell species by species: rows [t, unknown] are states of several
times.
"""

from __future__ import annotations

import numpy as np

from npde_opt.errors import SolverError
from npde_opt.forward.equation import Equation, joined
from npde_opt.forward.linear_part import LinearPart, Points
from npde_opt.forward.schemes import Scheme
from npde_opt.linear.banded import is_line
from npde_opt.linear.measured import measuring, note
from npde_opt.linear.residual import DIRECT, ROUNDING

LEAST = 32
"""Steps from which on loops pay: they take a third of a second to be loaded."""
BYTES = 256_000_000
"""Of all factors of a point, and of the states of a trajectory."""
REMEDY = "Take shorter steps, or bound the parameters."


class LineSteps:
    """Sizes and weights of the steps, which all points of the parameters share.

    Args:
        times: t_0 ... t_N.

    Attributes:
        steps: t_{n+1} - t_n. weights [i, j]: a_ij, with an empty row 0. alphas: dt a_ii, each once;
            which [n]: the place of a step's among them.
        solves: systems of a trajectory. solved: systems so far, of all points.
    """

    def __init__(self, scheme: Scheme, times: np.ndarray):
        self.stages = scheme.stages
        self.steps = np.diff(times)
        self.weights = np.zeros((self.stages + 1, self.stages + 1))
        self.weights[1:] = scheme.implicit
        sizes = [float(f"{dt * scheme.diagonal:.12g}") for dt in self.steps]
        self.alphas, which = np.unique(sizes, return_inverse=True)
        self.which = which.astype(np.int64)
        implicit = np.diagonal(self.weights) != 0
        self.solves, self.solved = int(implicit.sum()) * self.steps.size, 0


def line_steps(
    part: LinearPart, scheme: Scheme, times: np.ndarray, prefix: str, recipe: str
) -> LineSteps | None:
    """Of an equation whose steps are all linear, with a matrix that stays as it is; None where it
    is another, or no line (see linear/banded.py), and of few steps."""
    equation, grid = part.equation, part.grid
    linear = equation.operators and not equation.nonlinear and equation.columns
    if not linear or equation.complex or scheme.diagonal == 0:
        return None
    if times.size - 1 < LEAST or not is_line(grid, prefix, recipe):
        return None
    found = LineSteps(scheme, times)
    size = grid.size * len(equation.species)
    numbers = (3 * _band(equation) + 1) * found.alphas.size
    states = found.steps.size * found.stages
    return found if 8 * size * max(numbers, states) <= BYTES else None


def _band(equation: Equation) -> int:
    """Diagonals on either side."""
    offsets = [
        o for op in equation.operators for (o,) in joined(equation.grid, op.terms)
    ]
    return len(equation.species) * (max(map(abs, offsets)) + 1) - 1


class LineSystem:
    """The matrices at one point of the parameters.

    Args:
        points: the linear terms there, with the mass that `part` has now.

    Raises:
        SolverError: for a matrix that is singular.
    """

    def __init__(self, part: LinearPart, points: Points, steps: LineSteps, prefix: str):
        self.steps, self.prefix = steps, prefix
        self.count = len(part.equation.species)
        self.mass = np.repeat(part.mass, self.count)
        self.bands = _bands(part, points)
        shape = steps.alphas.size, self.mass.size
        band = self.bands.shape[1] // 2
        self._lu = np.empty((*shape, 3 * band + 1))
        self._pivots = np.empty(shape, np.int64)
        self._largest = np.empty(steps.alphas.size)
        from npde_opt.forward.line_loops import factor

        given = self.bands, self.mass, steps.alphas
        if factor(*given, self._lu, self._pivots, self._largest) >= 0:
            raise SolverError(prefix, "the matrix of a line is singular", REMEDY)

    def forward(
        self,
        start: np.ndarray,
        rates: np.ndarray,
        place: np.ndarray,
        extra: np.ndarray | None = None,
    ) -> np.ndarray:
        """All stages as rows [n s + i, unknown], the first of them u_0.

        Args:
            rates [row, unknown], place [n, j]: f_j, and its row. extra [n s + i - 1, unknown]: e_i.

        Raises:
            SolverError: where a true residual is not small.
        """
        from npde_opt.forward.line_loops import forward

        steps, rows = self.steps, self.steps.steps.size * self.steps.stages
        states = np.empty((rows + 1, self.mass.size))
        states[0] = start
        added = np.empty((0, self.mass.size)) if extra is None else extra
        found = np.zeros((rows, 3))
        sizes = steps.which, steps.steps, steps.weights
        forward(*self._system, *sizes, rates, place, added, states, found)
        self._check(found, "state")
        return states

    def backward(
        self, seen: np.ndarray, extra: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """lambda_0, and all mu as rows [n s + i - 1, unknown].

        Args:
            seen [n, unknown]: J_n. extra [n, i, unknown]: e_i.

        Raises:
            SolverError: where a true residual is not small.
        """
        from npde_opt.forward.line_loops import backward

        steps, size = self.steps, self.mass.size
        rows = steps.steps.size * steps.stages
        multipliers, found = np.empty((rows, size)), np.zeros((rows, 3))
        added = np.empty((0, 1, size)) if extra is None else extra
        sizes = steps.which, steps.steps, steps.weights
        first = backward(*self._system, *sizes, seen, added, multipliers, found)
        self._check(found, "adjoint")
        return first, multipliers

    @property
    def _system(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.bands, self.mass, self._lu, self._pivots

    def _check(self, found: np.ndarray, kind: str) -> None:
        """The residuals of all solves; values that are not finite are for others to find."""
        steps = self.steps
        steps.solved += steps.solves
        left, sizes, values = found.T
        rounding = ROUNDING * np.repeat(self._largest[steps.which], steps.stages)
        wrong = left > DIRECT * sizes + rounding * values
        if not wrong.any() and not measuring():
            return
        relative = np.divide(left, sizes, out=np.zeros_like(left), where=left > 0)
        if wrong.any():
            worst = relative[wrong].max()
            said = f"the true residual |b - A x| / |b| of a direct solve is {worst:.2g}"
            raise SolverError(self.prefix, said, REMEDY)
        implicit = np.diagonal(steps.weights)[1:] != 0
        for residual in relative[np.tile(implicit, steps.steps.size)].tolist():
            note(kind, residual, 1)


def _bands(part: LinearPart, points: Points) -> np.ndarray:
    """A by rows (see line_loops.py)."""
    equation, grid = part.equation, part.grid
    count, cells, band = len(equation.species), grid.size, _band(equation)
    found = np.zeros((cells, count, 2 * band + 1))
    for operator, at in zip(equation.operators, points, strict=True):
        offsets = joined(grid, operator.terms)
        planes = {o: np.zeros(grid.local_shape, order="F") for o in offsets}
        for point in at:
            point.add_planes(planes)
        for row, column, factor in operator.pattern:
            for (o,), values in planes.items():
                inside = slice(max(0, -o), cells - max(0, o))
                diagonal = o * count + column - row + band
                found[inside, row, diagonal] += factor * values[inside]
    return found.reshape(cells * count, 2 * band + 1)
