"""Whether intervals and bands of 95 % hold the truth in 95 % of data sets with other noise.

    python benchmarks/covered.py --case meshes/pumping_test_radial.toml --data DIR [--sets 200]
    mpirun -n 2 python benchmarks/covered.py --case ... --grid 10 12 10 --folder DIR

Every set has data of a truth on the grid that is inverted, so that there are no errors but noise,
of the case's sigma. It is fitted from the truth on, and its Laplace posterior says which numbers,
cells of fields and noise-free data lie within 1.96 deviations. The truth is the case's, that of a
fit to its measured data, or with `--truth prior` another one of the prior for every set: what the
deviations of fields are of. Those of a single true field are too wide where it is smooth, and too
narrow at its edges.

Ranks share the sets. DIR has a row a set and a number, a run that was stopped goes on from there.
Of a coverage p of n sets the binomial error is sqrt(p (1 - p) / n); of bands and fields, whose
values lie together, the error is that of the mean over sets.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import Row, comm, parser, report
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.cases import Case, load_case
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.misfits import LeastSquares
from npde_opt.objective import Objective
from npde_opt.optimizers import Settings, minimize
from npde_opt.parameters.draws import child
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.bounds import held
from npde_opt.posterior.predictions import spread

ENDS, WITHIN = 1.959963984540054, (0.90, 0.98)
Found = dict[str, tuple[int, int]]
"""By name how many values lie inside, of how many."""


class Study:
    """Of a case on one rank."""

    def __init__(self, case: Case, drawn: bool):
        self.case, ensemble = case, Ensemble.whole(MPI.COMM_SELF)
        case.prepare(ensemble)
        self.J, start = case.build(case.grid(MPI.COMM_SELF), ensemble)
        if case.table.misfit.kind not in ("least-squares", "quadratic"):
            allowed = "least squares: noise is normal here"
            raise InputError("misfit.kind", case.table.misfit.kind, allowed)
        method = case.table.optimizer.method
        self.settings = Settings(
            method if method != "lbfgs" else "newton",
            100,
            gradient_rtol=0.1,
            decrement=1e-3,
            insist=True,
        )
        known = all(u.truth is not None for u in case.table.unknown)
        self.truth = (
            case.on(self.J.space.grid).start("truth") if known else self._fit(start)
        )
        self.prior = Laplace(self.J.linearize(self.truth)) if drawn else None

    def _fit(self, start: PETSc.Vec) -> PETSc.Vec:
        return minimize(self.J, start, self.settings).m

    def of(self, number: int) -> Found:
        """A data set: what of it is covered."""
        truth = self.truth
        if self.prior is not None:
            (truth,) = self.prior.prior_samples(1, child(1, number))
        J, clean = self._noisy(truth, number)
        m = minimize(J, truth, self.settings).m
        at = J.linearize(m)
        laplace = Laplace(at, PosteriorSettings(cut=1e-2), fixed=held(at))
        found = self._parameters(truth, m, laplace)
        predicted = [d.values for d in at.data]
        # Nothing is beside as many directions as there are parameters.
        whole = len(laplace.values) == self.J.space.size
        wide = [d.values for d in spread(laplace, 0 if whole else 16).deviations]
        found["bands of data"] = _count(
            np.concatenate(
                [(a - b).ravel() for a, b in zip(predicted, clean, strict=True)]
            ),
            np.concatenate([w.ravel() for w in wide]),
        )
        at.destroy()
        return found

    def _noisy(
        self, truth: PETSc.Vec, number: int
    ) -> tuple[Objective, list[np.ndarray]]:
        """The objective of a set's data, and these without noise."""
        J, data = self.J, self.case.data
        assert data is not None
        there = J.linearize(truth)
        clean = [d.values.copy() for d in there.data]
        there.destroy()
        misfits = []
        for values, layout in zip(clean, J.forward.layouts, strict=True):
            sigma = np.stack([data.sigma[k] for k in layout.members], 1)
            given = np.stack([data.observed[k] for k in layout.members], 1)
            noise = layout.noise([number, *layout.members]).values
            own = np.where(np.isfinite(given), values + sigma * noise, np.nan)
            misfits.append(LeastSquares(own, sigma, layout, owned=True))
        return Objective(J.forward, misfits, J.regularizers), clean

    def _parameters(self, truth: PETSc.Vec, m: PETSc.Vec, laplace: Laplace) -> Found:
        space, found = self.J.space, Found()
        deviation = space.create_vec()
        deviation.setArray(np.sqrt(laplace.variance))
        for u in space.unknowns:
            off = space.look(m, u.name) - space.look(truth, u.name)
            wide = space.look(deviation, u.name)
            free = np.broadcast_to(space.free(u.name), off.shape)
            off, wide = off[free], wide[free]
            if off.size > 8:
                found[u.name] = _count(off, wide)
            else:
                for i in range(off.size):
                    found[u.label(i)] = _count(off[i : i + 1], wide[i : i + 1])
        deviation.destroy()
        return found


def _count(off: np.ndarray, deviation: np.ndarray) -> tuple[int, int]:
    """How many are within the ends, of those that have any deviation."""
    some = deviation > 0
    return int((np.abs(off[some]) <= ENDS * deviation[some]).sum()), int(some.sum())


def rows_before(folder: Path) -> dict[int, Found]:
    """What earlier runs found, by set."""
    found: dict[int, Found] = {}
    for path in sorted(folder.glob("sets-*.csv")):
        for line in path.read_text().splitlines():
            parts = line.split(",")
            if len(parts) == 4:
                number, name, inside, count = parts
                found.setdefault(int(number), {})[name] = (int(inside), int(count))
    return found


def run(study: Study, sets: int, folder: Path, seconds: float) -> Iterator[None]:
    """This rank's sets that are not there yet, until the time is over."""
    begin, before = time.monotonic(), rows_before(folder)
    comm.barrier()
    missing = [k for k in range(sets) if k not in before]
    path = folder / f"sets-{comm.rank}.csv"
    for number in missing[comm.rank :: comm.size]:
        if time.monotonic() - begin > seconds:
            return
        found = study.of(number)
        with open(path, "a") as file:
            lines = [f"{number},{n},{a},{b}\n" for n, (a, b) in found.items()]
            file.write("".join(lines))
        yield


def coverage(found: dict[int, Found]) -> list[Row]:
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    rows: list[Row] = []
    for name in names:
        shares = np.array([r[name][0] / max(r[name][1], 1) for r in found.values()])
        p, n, size = float(shares.mean()), shares.size, found[min(found)][name][1]
        alone = size == 1
        spread = math.sqrt(p * (1 - p)) if alone else float(shares.std(ddof=1))
        rows.append(
            {
                "what": name,
                "values a set": size,
                "sets": n,
                "covered": f"{p:.1%}",
                "error": f"{spread / math.sqrt(n):.1%}",
                "90 to 98 %": "yes" if WITHIN[0] <= p <= WITHIN[1] else "no",
            }
        )
    return rows


def main() -> None:
    p = parser("covered", __doc__ or "")
    p.add_argument("--case", type=Path, required=True)
    p.add_argument("--data")
    p.add_argument("--grid", type=int, nargs="+")
    p.add_argument("--sets", type=int, default=200)
    p.add_argument("--truth", choices=("case", "prior"), default="case")
    p.add_argument("--folder", type=Path)
    p.add_argument("--seconds", type=float, default=math.inf)
    p.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    o = p.parse_args()
    name = f"covered_{o.case.stem}"
    folder = o.folder or o.out.with_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    given = dict(text.split("=", 1) for text in o.set)
    case = load_case(o.case, MPI.COMM_SELF, cells=o.grid, data=o.data, variables=given)
    study = Study(case, o.truth == "prior")
    for _ in run(study, o.sets, folder, o.seconds):
        pass
    comm.barrier()
    if comm.rank == 0:
        found = rows_before(folder)
        kept = {k: v for k, v in found.items() if k < o.sets}
        report(name, coverage(kept), o.out.with_name(f"{name}.json"))


if __name__ == "__main__":
    main()
