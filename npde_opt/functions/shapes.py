"""c(theta): what the numbers of a function are to the function.

direct    c = theta
monotone  c_i = c_{i-1} +- theta_i,  mean of c = sinh(log theta_0)
squares   c_i = +- theta_i^2 of some, c_i = theta_i of the others

Numbers of a monotone shape are positive: unknowns with the transform log.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from npde_opt.errors import InputError

MONOTONE = {"rising": 1.0, "falling": -1.0}


def direction(monotone: str) -> float:
    """1 or -1. Raises InputError for another word than those of MONOTONE."""
    if monotone not in MONOTONE:
        raise InputError("function: monotone", repr(monotone), ", ".join(MONOTONE))
    return MONOTONE[monotone]


class Shape(ABC):
    """c(theta) (count,) with its derivatives.

    Attributes:
        transform: of the unknown that its numbers are.
    """

    transform: str = "identity"

    def __init__(self, count: int):
        self.count = count
        self._last: tuple[bytes, np.ndarray] | None = None

    @abstractmethod
    def value(self, theta: np.ndarray) -> np.ndarray: ...

    def kept(self, theta: np.ndarray) -> np.ndarray:
        """`value`, that of the last numbers once more where they are these."""
        numbers = theta.tobytes()
        if self._last is None or self._last[0] != numbers:
            self._last = numbers, self.value(theta.copy())
        return self._last[1]

    @abstractmethod
    def push(self, theta: np.ndarray, d: np.ndarray) -> np.ndarray:
        """c' d."""

    @abstractmethod
    def pull(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """c'^T y."""

    def second(self, theta: np.ndarray, d: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The derivative of c'^T y along d."""
        return np.zeros(self.count)

    @abstractmethod
    def inverse(self, c: np.ndarray) -> np.ndarray:
        """theta. Raises InputError where there is none."""


class Direct(Shape):
    def value(self, theta: np.ndarray) -> np.ndarray:
        return theta

    def push(self, theta: np.ndarray, d: np.ndarray) -> np.ndarray:
        return d

    def pull(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return y

    def inverse(self, c: np.ndarray) -> np.ndarray:
        return c


class Monotone(Shape):
    """Rising with `sign` 1, falling with -1."""

    transform = "log"

    def __init__(self, count: int, sign: float):
        super().__init__(count)
        self.sign = sign

    def value(self, theta: np.ndarray) -> np.ndarray:
        return self._around((theta[0] - 1 / theta[0]) / 2, theta[1:])

    def _around(self, mean: float, steps: np.ndarray) -> np.ndarray:
        """The mean is far better determined than the ends, and nearly by itself."""
        found = np.concatenate([[0.0], np.cumsum(self.sign * steps)])
        return np.asarray(mean + found - found.mean())

    def push(self, theta: np.ndarray, d: np.ndarray) -> np.ndarray:
        return self._around((1 + theta[0] ** -2) / 2 * d[0], d[1:])

    def pull(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        above = np.cumsum((y - y.mean())[::-1])[::-1]
        first = (1 + theta[0] ** -2) / 2 * y.sum()
        return np.concatenate([[first], self.sign * above[1:]])

    def second(self, theta: np.ndarray, d: np.ndarray, y: np.ndarray) -> np.ndarray:
        found = np.zeros(self.count)
        found[0] = -(theta[0] ** -3) * d[0] * y.sum()
        return found

    def inverse(self, c: np.ndarray) -> np.ndarray:
        steps = self.sign * np.diff(c)
        if np.any(steps <= 0):
            word = next(w for w, sign in MONOTONE.items() if sign == self.sign)
            raise InputError(
                "function: values", c.tolist(), f"values that are strictly {word}"
            )
        return np.concatenate([[np.exp(np.arcsinh(c.mean()))], steps])


class Squares(Shape):
    """`signs` (count,): 1 or -1 of those that are squares, 0 of the others."""

    def __init__(self, signs: np.ndarray):
        super().__init__(signs.size)
        self.signs = signs

    def value(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(np.where(self.signs != 0, self.signs * theta**2, theta))

    def _slopes(self, theta: np.ndarray) -> np.ndarray:
        return np.where(self.signs != 0, 2 * self.signs * theta, 1.0)

    def push(self, theta: np.ndarray, d: np.ndarray) -> np.ndarray:
        return np.asarray(self._slopes(theta) * d)

    def pull(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(self._slopes(theta) * y)

    def second(self, theta: np.ndarray, d: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(2 * self.signs * d * y)

    def inverse(self, c: np.ndarray) -> np.ndarray:
        squares = np.where(self.signs != 0, self.signs * c, 0.0)
        if np.any(squares < 0):
            raise InputError(
                "function: values", c.tolist(), "values with the sign of the squares"
            )
        return np.where(self.signs != 0, np.sqrt(squares), c)
