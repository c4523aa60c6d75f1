"""How the posterior is computed."""

from __future__ import annotations

from dataclasses import dataclass

from npde_opt.errors import InputError


@dataclass(frozen=True)
class PosteriorSettings:
    """
    Args:
        cut: least eigenvalue that is kept: along a direction of eigenvalue x the data take the part
            x / (1 + x) of the prior's variance away.
        rtol: of eigenvalues: the residual of a pair, relative to 1 + its eigenvalue.
        block: directions that are multiplied between two looks at the spectrum.
        most: directions at most.
        prior_rtol: of solves with the prior's precision.
        gauss_newton: whether the data's Hessian is that of Gauss-Newton, or the exact one.
        samples: that variances are estimated from where they are not known otherwise.
        seed: of all that is drawn.

    Raises:
        InputError: for a number outside its range.
    """

    cut: float = 0.1
    rtol: float = 3e-2
    block: int = 8
    most: int = 1000
    prior_rtol: float = 1e-8
    gauss_newton: bool = True
    samples: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("cut", "rtol", "prior_rtol"):
            self._check(name, getattr(self, name) > 0, "a positive number")
        for name in ("block", "most", "samples"):
            self._check(name, getattr(self, name) >= 1, "a number >= 1")
        self._check("seed", self.seed >= 0, "a number >= 0")

    def _check(self, name: str, good: bool, allowed: str) -> None:
        if not good:
            raise InputError(f"posterior.{name}", getattr(self, name), allowed)
