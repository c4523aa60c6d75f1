"""Parallel tempering: copies of a chain at temperatures 1 = T_0 < T_1 < ... of the misfit,

    pi_T(m) ~ prior(m) exp(-misfit(m) / T),

of which the hot ones pass over what separates places that the data allow. After every step
neighbours exchange where they are, with the probability

    min(1, exp((1/T_a - 1/T_b) (misfit(m_a) - misfit(m_b)))),

which keeps the product of all pi_T; that of T_0 is the posterior, and the chain (Geyer, Computing
Science and Statistics 23 (1991); Earl and Deem, Physical Chemistry Chemical Physics 7 (2005)).

Where the posterior is normal, with the eigenvalues x of the data's Hessian against the prior, the
variance of the misfit at b = 1/T is 1/2 sum (x / (1 + b x))^2, and about half of the exchanges are
taken between temperatures whose b are one standard deviation's inverse apart. `ladder` chooses
them so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Record
from npde_opt.parameters.draws import child
from npde_opt.sampling.chain import Chain, Figures, Progress, Walk
from npde_opt.sampling.moves import Moves
from npde_opt.sampling.settings import SamplingSettings

WIDEST = 4.0
"""Ratio of two temperatures at most: beyond, all is the prior's."""
DIGITS = 4
"""Of a temperature: eigenvalues differ in their last ones between numbers of ranks."""
LEVELS = 1 << 27
"""Far from the numbers of steps: seeds of the hot copies."""
EXCHANGE = 3
"""Of the numbers that decide on exchanges: 1 and 2 are those of steps and trajectories."""


def ladder(values: np.ndarray, count: int) -> tuple[float, ...]:
    """So many temperatures from 1.

    Args:
        values: x of the posterior (any,).
    """
    x, found = np.maximum(values, 0.0), [1.0]
    while len(found) < count:
        shares = x / (found[-1] + x)
        wide = math.sqrt(0.5 * float((shares**2).sum()))
        # Of b's logarithm, which is b times as far.
        ratio = math.exp(1 / max(wide, 1 / math.log(WIDEST)))
        found.append(float(f"{found[-1] * ratio:.{DIGITS}g}"))
    return tuple(found)


class Ladder(Chain):
    """The chain of temperature 1 with its hot copies; see Chain.

    Args:
        moves: one a temperature, the first of 1.
        starts: one a temperature; copies are taken.

    Attributes:
        hot: the copies.
        exchanged: sums of the probabilities of exchanges between neighbours, after the burn-in.
        tried: how many these are.
    """

    def __init__(
        self,
        moves: Sequence[Moves],
        settings: SamplingSettings,
        starts: Sequence[PETSc.Vec],
        figures: Figures,
    ):
        super().__init__(moves[0], settings, starts[0], figures)
        pairs = zip(moves[1:], starts[1:], strict=True)
        self.hot = [Walk(own, settings, start) for own, start in pairs]
        self.exchanged = [0.0] * len(self.hot)
        self.tried = [0] * len(self.hot)

    @property
    def swaps(self) -> tuple[float, ...]:
        """Mean probabilities of exchanges between neighbours."""
        pairs = zip(self.exchanged, self.tried, strict=True)
        return tuple(total / n if n else math.nan for total, n in pairs)

    def step(self) -> None:
        super().step()
        for walk in self.hot:
            walk.advance()
        self._exchange()

    def _exchange(self) -> None:
        """Pairs (0, 1), (2, 3), ... after even steps, the others after odd ones."""
        number = self.progress.done
        seed = child(self.moves.seed, number)
        drawn = np.random.default_rng([seed, EXCHANGE, 1]).random(len(self.hot))
        walks = [self, *self.hot]
        for k in range(number % 2, len(self.hot), 2):
            chance = self._exchanged(walks[k], walks[k + 1], float(drawn[k]))
            if number > self.settings.burn_in:
                self.exchanged[k] += chance
                self.tried[k] += 1

    def _exchanged(self, cold: Walk, hot: Walk, drawn: float) -> float:
        """The probability of an exchange, which is made where it is above the number."""
        a, b = cold.here, hot.here
        apart = 1 / cold.moves.temperature - 1 / hot.moves.temperature
        chance = math.exp(min(0.0, apart * (a.misfit - b.misfit)))
        if not drawn < chance:
            return chance
        there, here = cold.moves.adopted(b), hot.moves.adopted(a)
        if not (math.isfinite(there.rest) and math.isfinite(here.rest)):
            # A gradient that overflows at one of the temperatures: neither of them goes there.
            for place in (there, here):
                place.forget()
            return 0.0
        for place in (a, b):
            place.forget()
        cold.here, hot.here = there, here
        return chance

    # ---- checkpoints ---------------------------------------------------------------------------

    @property
    def vectors(self) -> dict[str, PETSc.Vec]:
        places = {f"m_{k + 1}": walk.here.m for k, walk in enumerate(self.hot)}
        return super().vectors | places

    @property
    def meta(self) -> Record:
        return super().meta | {
            "hot": [asdict(walk.progress) for walk in self.hot],
            "exchanged": list(self.exchanged),
            "tried": list(self.tried),
        }

    def restore(
        self, vectors: dict[str, PETSc.Vec], meta: Record, rows: np.ndarray
    ) -> None:
        own = dict(meta)
        hot, exchanged, tried = (own.pop(k) for k in ("hot", "exchanged", "tried"))
        super().restore(vectors, own, rows)
        self.exchanged, self.tried = list(exchanged), list(tried)
        for k, (walk, progress) in enumerate(zip(self.hot, hot, strict=True)):
            walk.goes_on(vectors[f"m_{k + 1}"], Progress(**progress))

    def destroy(self) -> None:
        super().destroy()
        for walk in self.hot:
            walk.moves.destroy()
            walk.destroy()
