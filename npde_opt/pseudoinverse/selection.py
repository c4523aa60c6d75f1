"""Which terms of G c = b are needed: sequential thresholding, then an information criterion.

A term counts where its share |c_j| |G_j| / |b| is at least a threshold; those that do not are left
out, and the others are fitted again, until none falls out. That tells the errors of the rows about
as they are; with these as weights, terms are taken away one by one, the one that is missed least
first, and of all sets the one of the least

    n log(|G c - b|^2 / n + floor) + k (log n + 2 log p)

is taken, with n rows, k of p terms (extended Bayesian information criterion, Chen and Chen 2008).
The floor is that of rows whose residual is FLOOR of |b|: what the grid and the test functions miss
tells nothing of the equation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from npde_opt.errors import InputError
from npde_opt.pseudoinverse.equation_error import Differences, Rows
from npde_opt.pseudoinverse.fold import Fold
from npde_opt.pseudoinverse.weak import Weak

FORMS: dict[str, type[Weak] | type[Differences]] = {
    "weak": Weak,
    "differences": Differences,
}

FLOOR = 1e-3
THRESHOLD = 0.02
"""Of shares, for the first look at the terms."""
ROUNDS = 3
"""Of weights and terms in turn."""
SETTLED = 0.1
"""Deviations by which coefficients may still move."""


@dataclass(frozen=True)
class Choice:
    """One set of terms.

    Attributes:
        terms: their numbers.
        information: the criterion.
        residual: |G c - b| / |b|, as rows are weighted.
    """

    terms: tuple[int, ...]
    information: float
    residual: float


@dataclass(frozen=True)
class Selected:
    """The equation that was found.

    Attributes:
        terms, coefficients, errors: of the terms that are left: numbers, values, standard
            deviations.
        residual: |G c - b| / |b|.
        path: sets of terms, from all to one.
        noise: standard deviation of the rows, which in the weak form is that of the states.
    """

    terms: tuple[int, ...]
    coefficients: np.ndarray
    errors: np.ndarray
    residual: float
    path: tuple[Choice, ...]
    noise: float


class _Fits:
    """G c = b, folded: fits of some of its terms cost no pass over the rows."""

    def __init__(self, rows: Rows):
        G, b = rows
        self.rows, self.count = G.shape
        # Terms have units of their own: each is measured by its size.
        self.sizes = np.sqrt((G**2).sum(axis=0))
        self.size = float(np.linalg.norm(b))
        if not (self.sizes > 0).all() or not self.size > 0:
            raise InputError(
                "equation: rows", "terms or u_t that are 0", "observations that vary"
            )
        fold = Fold(self.count, 1)
        fold.add(G / self.sizes, b)
        self.R, self.C = (
            np.triu(fold.kept)[: self.count, :-1],
            fold.kept[: self.count, -1],
        )
        self.rest = float(fold.kept[-1, -1] ** 2)

    def fit(self, terms: Iterable[int]) -> tuple[np.ndarray, float]:
        """Scaled coefficients (all terms, 0 of the others), and |G c - b|^2."""
        c, some = np.zeros(self.count), list(terms)
        c[some] = np.linalg.lstsq(self.R[:, some], self.C)[0]
        return c, self.rest + float(((self.R @ c - self.C) ** 2).sum())

    def choice(self, terms: Iterable[int]) -> Choice:
        some = tuple(terms)
        _, missed = self.fit(some)
        n = self.rows
        variance = (missed + (FLOOR * self.size) ** 2) / n
        costs = len(some) * (np.log(n) + 2 * np.log(self.count))
        return Choice(
            some,
            float(n * np.log(variance) + costs),
            float(np.sqrt(missed)) / self.size,
        )

    def thresholded(self) -> list[int]:
        """Terms whose share is at least the threshold."""
        left = list(range(self.count))
        while True:
            c, _ = self.fit(left)
            kept = [j for j in left if abs(c[j]) >= THRESHOLD * self.size]
            if kept == left:
                return left
            left = kept

    def path(self) -> list[Choice]:
        """Sets of terms, one less each, the one that is missed least first."""
        found = [self.choice(range(self.count))]
        while len(found[-1].terms) > 1:
            terms = found[-1].terms
            fewer = [self.choice(t for t in terms if t != j) for j in terms]
            found.append(min(fewer, key=lambda choice: choice.residual))
        return found

    def errors(self, terms: tuple[int, ...], missed: float) -> np.ndarray:
        """Standard deviations of scaled coefficients."""
        some = self.R[:, list(terms)]
        variance = missed / max(self.rows - len(terms), 1)
        found: np.ndarray = np.sqrt(variance * np.diag(np.linalg.pinv(some.T @ some)))
        return found


def select(equations: Weak | Differences) -> Selected:
    """The terms that are needed, and their coefficients.

    Raises:
        InputError: where a term or u_t is 0 everywhere, and for no more rows than terms, of which
            some explain any u_t.
    """
    fits = _Fits(equations.rows())
    if fits.rows <= fits.count:
        told = f"{fits.rows} rows for {fits.count} terms"
        raise InputError("equation: windows", told, "more rows: narrower windows")
    c, _ = fits.fit(fits.thresholded())
    for _ in range(ROUNDS):
        before = np.flatnonzero(c)
        fits = _Fits(equations.rows(c / fits.sizes))
        path = fits.path()
        best = min(path, key=lambda choice: choice.information)
        c, _ = fits.fit(best.terms)
        if tuple(before) == best.terms:
            break
    about = c / fits.sizes
    found = [refined(equations, best.terms, about, fine) for fine in (False, True)]
    # Fine windows see more in noise, wide ones are nearer to integrals.
    values, errors, noise = min(found, key=lambda f: float(((f[1] / f[0]) ** 2).sum()))
    return Selected(best.terms, values, errors, best.residual, tuple(path), noise)


def only(equations: Weak | Differences, terms: Sequence[int]) -> Selected:
    """The coefficients of terms that are known."""
    fits, every = _Fits(equations.rows()), tuple(terms)
    c, _ = fits.fit(every)
    values, errors, noise = refined(equations, every, c / fits.sizes, fine=True)
    choice = fits.choice(every)
    return Selected(every, values, errors, choice.residual, (choice,), noise)


def refined(
    equations: Weak | Differences, terms: tuple[int, ...], c: np.ndarray, fine: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients of some terms, their standard deviations, and that of a row; c: about the
    coefficients of all terms."""
    some, c, every = list(terms), c.copy(), tuple(range(len(terms)))
    for _ in range(ROUNDS):
        G, b = equations.rows(c, fine)
        fits = _Fits((G[:, some], b))
        found, missed = fits.fit(every)
        values, errors = found / fits.sizes, fits.errors(every, missed) / fits.sizes
        moved = abs(values - c[some])
        c[some] = values
        if (moved <= SETTLED * errors).all():
            break
    freedom = max(fits.rows - len(terms), 1)
    return values, errors, float(np.sqrt(missed / freedom))
