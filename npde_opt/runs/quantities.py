"""Intervals of a run's numbers, before and after the data, and quantities of interest: their means,
deviations and sensitivities."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficient, Record
from npde_opt.errors import SolverError
from npde_opt.posterior import Laplace
from npde_opt.posterior.quantities import Sampled, sampled, slope_errors
from npde_opt.runs.numbers import Numbers
from npde_opt.runs.told import NUMBERS

FILE = "quantities.csv"
DRAWS = 20_000
"""Of base numbers, for intervals of what is no linear function of them."""
ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Spread:
    """Of all numbers, (names,) each.

    Attributes:
        ends: of the middle 95 %, (2, names).
    """

    values: np.ndarray
    deviations: np.ndarray
    ends: np.ndarray


class Told:
    """The numbers at the answer. Collective."""

    def __init__(self, laplace: Laplace, numbers: Numbers, pairs: int):
        self.laplace, self.numbers = laplace, numbers
        self.z, self.gradients = numbers.base_gradients(laplace.at.m)
        covariance = laplace.covariance(self.gradients) if self.gradients else _none()
        self.deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        self.slopes = numbers.slopes(self.z, self.deviations)
        self.after = self._spread(self.z, covariance)
        self.before = self._prior()
        self.sampled: Sampled | None = None
        self.wrong = np.zeros(0)
        if numbers.observed:
            base = _Base(numbers)
            self.wrong = slope_errors(laplace, base, self.gradients)
            if pairs:
                self.sampled = sampled(laplace, base, self.gradients, pairs)

    def _spread(self, z: np.ndarray, covariance: np.ndarray) -> Spread:
        deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        slopes = self.numbers.slopes(z, deviations)
        own = np.sqrt(np.maximum(np.diag(slopes @ covariance @ slopes.T), 0.0))
        found, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(found, 0.0))
        rng = np.random.default_rng(self.laplace.settings.seed)
        draws = z[:, None] + root @ rng.standard_normal((z.size, DRAWS))
        with np.errstate(all="ignore"):
            ends = np.quantile(self.numbers.told(draws), ENDS, axis=1)
        return Spread(self.numbers.told(z), own, ends)

    def _prior(self) -> Spread | None:
        """Around the prior's mean; None where there is no state there."""
        laplace, mean = self.laplace, self.laplace.prior.mean()
        try:
            z, gradients = self.numbers.base_gradients(mean)
        except SolverError:
            return None
        finally:
            mean.destroy()
        covariance = prior_covariance(laplace, gradients) if gradients else _none()
        for g in gradients:
            g.destroy()
        return self._spread(z, covariance)

    # ---- what is left of it ----------------------------------------------------------------------

    def metrics(self) -> Record:
        """By number: value, deviation, intervals; of quantities more."""
        found: dict[str, Record] = {}
        for i, name in enumerate(self.numbers.names):
            row: Record = {
                "value": self.after.values[i],
                "deviation": self.after.deviations[i],
                "interval": self.after.ends[:, i].tolist(),
            }
            if self.before is not None:
                row["prior_interval"] = self.before.ends[:, i].tolist()
            if i < len(self.numbers.base) and name in self.numbers.asked:
                row |= self._of_quantity(i)
            found[name] = row
        return {NUMBERS: found} if found else {}

    def _of_quantity(self, i: int) -> Record:
        found: Record = {"sensitivity_error": self.wrong[i]}
        if self.sampled is not None:
            s = self.sampled
            found |= {
                "mean_second_order": s.second[i],
                "mean": s.mean[i],
                "mean_error": s.error[i],
                "deviation_sampled": s.deviation[i],
                "gain_of_control": s.gain[i],
            }
        return found

    def csv(self) -> str:
        """A line a number: its metrics, and sensitivities to scalars."""
        table = self.metrics().get(NUMBERS, {})
        plain = ["value", "deviation", "mean_second_order", "mean", "mean_error"]
        plain += ["deviation_sampled", "gain_of_control", "sensitivity_error"]
        scalars = [s.name for s in self.numbers.scalars]
        head = ["name", *plain, "low", "high", "prior_low", "prior_high"]
        out = io.StringIO()
        out.write(",".join([*head, *(f"d/d {name}" for name in scalars)]) + "\n")
        sensitivities = self._to_scalars()
        for name, row in table.items():
            cells = [_cell(row.get(key)) for key in plain]
            ends = [*row["interval"], *row.get("prior_interval", (None, None))]
            cells += [_cell(v) for v in (*ends, *sensitivities[name])]
            out.write(",".join([name, *cells]) + "\n")
        return out.getvalue()

    def _to_scalars(self) -> dict[str, np.ndarray]:
        """d number / d parameter of every scalar, with all that depends on it. The rows of base
        numbers are gradients, the others' follow from them."""
        count = len(self.numbers.scalars)
        units = self.gradients[:count]
        whole = [[g.dot(u) for u in units] for g in self.gradients]
        base = np.array(whole, float).reshape(len(self.gradients), count)
        return dict(zip(self.numbers.names, self.slopes @ base, strict=True))

    def fields(self) -> dict[str, Coefficient]:
        """UNKNOWN_sensitivity_of_NAME: of a quantity to the parameters of fields, over volumes."""
        space, found = self.laplace.space, dict[str, Coefficient]()
        names = [u.name for u in space.unknowns if space.blocks[u.name].large]
        mass, whole = space.mass(), space.create_vec()
        for name in self.numbers.asked:
            row = self.slopes[self.numbers.names.index(name)]
            whole.set(0.0)
            for share, g in zip(row, self.gradients, strict=True):
                whole.axpy(float(share), g)
            whole.pointwiseDivide(whole, mass)
            for unknown in names:
                values = space.look(whole, unknown)
                if values.ndim == space.grid.dim:
                    found[f"{unknown}_sensitivity_of_{name}"] = values.copy()
        mass.destroy()
        whole.destroy()
        return found

    def destroy(self) -> None:
        for g in self.gradients:
            g.destroy()


class _Base:
    """Base numbers as quantities."""

    def __init__(self, numbers: Numbers):
        self.numbers, self.names = numbers, numbers.base

    def values(self, m: PETSc.Vec) -> np.ndarray:
        return self.numbers.base_values(m)

    def gradients(self, m: PETSc.Vec) -> tuple[np.ndarray, list[PETSc.Vec]]:
        return self.numbers.base_gradients(m)


def prior_covariance(laplace: Laplace, functionals: list[PETSc.Vec]) -> np.ndarray:
    """(n, n) of linear functionals, given as gradients."""
    images = []
    for g in functionals:
        image = g.duplicate()
        laplace.prior.solve(g, image)
        images.append(image)
    found = np.array([[float(a.dot(b)) for b in images] for a in functionals])
    for image in images:
        image.destroy()
    return np.asarray((found + found.T) / 2)


def _none() -> np.ndarray:
    return np.zeros((0, 0))


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.10g}"
