"""A case: -div(D grad u) + c u = f with unknown D or c, its data, and how both look on any grid of a hierarchy."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.cases.fields import evaluate, mni152, resample
from npde_opt.cases.schema import validate
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.forward import Experiment, SteadyState
from npde_opt.grids import Boundary, Grid
from npde_opt.io.fields import read_field
from npde_opt.misfits import MISFITS, Misfit
from npde_opt.objective import Objective
from npde_opt.operators import check_points, from_rows, interpolation
from npde_opt.optimizers import Settings
from npde_opt.parameters import ParameterSpace, Unknown
from npde_opt.regularizers import REGULARIZERS
from npde_opt.terms import Advection, Diffusion, Reaction, Term

MILLIMETRE = 1e-3


def load_case(path: str | os.PathLike, comm: MPI.Intracomm = MPI.COMM_WORLD, *, cells: Sequence[int] | None = None,
              data: str | os.PathLike | None = None, seed: int = 0) -> Case:
    """Reads and validates a case on every rank. Raises InputError naming the key that is wrong."""
    with collective(comm):
        file = Path(path)
        if not file.is_file():
            raise InputError("--case", str(path), "an existing TOML file")
        try:
            raw = tomllib.loads(file.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"--case {path}", str(error), "valid TOML") from error
        return Case(raw, file, cells, Path(data) if data else None, seed)


class Case:
    """A validated case; `grid`, `build` and `simulate` make its PETSc objects."""

    def __init__(self, raw: dict[str, Any], path: Path, cells: Sequence[int] | None, data: Path | None, seed: int):
        self.table, self.path, self.data_folder, self.seed = validate(raw), path, data, seed
        self.name = path.stem
        self.domain = (self.table["domain"]["mni152"], self.table["domain"]["slice"])
        self.native_edges = self._native_edges()
        self.edges = self._edges(cells)
        self.dim = len(self.edges)
        text = json.dumps([self.table, [e.size for e in self.edges], seed], sort_keys=True, default=str)
        self.hash = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.observed: np.ndarray | None = None
        self.sigma: np.ndarray | float = 1.0
        self.weight_override: float | None = None
        self._electrodes: np.ndarray | None = None
        self._check()

    def find(self, field: str, name: str) -> Path:
        """A file beside the case or in the data folder."""
        places = [self.path.parent / name, *([self.data_folder / name] if self.data_folder else [])]
        for place in places:
            if place.exists():
                return place
        hint = "" if self.data_folder else "; give the folder that holds it by --data DIR or NPDE_DATA"
        raise InputError(field, name, f"an existing file (looked in {', '.join(str(p.parent) for p in places)}){hint}")

    def _native_edges(self) -> list[np.ndarray]:
        if self.domain[0] is None:
            return []
        shape = mni152(*self.domain)["mask"].shape
        return [np.arange(n + 1) * MILLIMETRE for n in shape]

    def _edges(self, cells: Sequence[int] | None) -> list[np.ndarray]:
        grid = self.table["grid"]
        if grid["edges"] is not None and cells is None:
            edges = [np.asarray(e, float) for e in grid["edges"]]
        elif self.native_edges:
            factor = grid["coarsen"]
            if factor < 1:
                raise InputError("grid.coarsen", factor, "an integer >= 1")
            shape = cells or grid["shape"] or [-(-(e.size - 1) // factor) for e in self.native_edges]
            if len(shape) != len(self.native_edges):
                raise InputError("grid.shape", list(shape), f"{len(self.native_edges)} numbers for this domain")
            edges = [np.linspace(e[0], e[-1], n + 1) for e, n in zip(self.native_edges, shape, strict=True)]
        else:
            shape = cells or grid["shape"]
            if not shape or not all(isinstance(n, int) and n > 0 for n in shape) or len(shape) > 3:
                raise InputError("grid.shape", shape, "1 to 3 positive integers")
            extent, origin = grid["extent"] or [1.0] * len(shape), grid["origin"] or [0.0] * len(shape)
            if len(extent) != len(shape) or len(origin) != len(shape):
                raise InputError("grid.extent, origin", (extent, origin), f"{len(shape)} numbers each")
            if not all(isinstance(x, int | float) and x > 0 for x in extent):
                raise InputError("grid.extent", extent, "positive lengths")
            if self.table["grid"]["shape"] and len(self.table["grid"]["shape"]) != len(shape):
                raise InputError("--grid", list(shape), f"{len(self.table['grid']['shape'])} numbers, as in grid.shape")
            edges = [o + x * np.linspace(0, 1, n + 1) for o, x, n in zip(origin, extent, shape, strict=True)]
        return edges

    def _check(self) -> None:
        names = [u["name"] for u in self.table["unknown"]]
        for u in self.table["unknown"]:
            for key in ("initial", "truth"):
                self._positive(f"unknown.{u['name']}.{key}", u[key], u["name"])
        for name in ("D", "c"):
            if name not in names:
                self._positive(f"equation.{name}", self.table["equation"][name], name)
        for r in self.table["regularization"]:
            if r["unknown"] is not None and r["unknown"] not in names:
                raise InputError("regularization.unknown", r["unknown"], ", ".join(names))
            if isinstance(r["weight"], str) and r["weight"] not in ("discrepancy", "l-curve"):
                raise InputError("regularization.weight", r["weight"], "a number, 'discrepancy' or 'l-curve'")
        if self.table["observations"]["sigma"] is not None and not self.table["observations"]["sigma"] > 0:
            raise InputError("observations.sigma", self.table["observations"]["sigma"], "a positive number")
        self.settings()

    @staticmethod
    def _positive(field: str, spec: Any, name: str) -> None:
        if name.startswith("D") and isinstance(spec, int | float) and not spec > 0:
            raise InputError(field, spec, "a positive number (a conductivity or diffusivity)")

    def settings(self, method: str | None = None) -> Settings:
        o = self.table["optimizer"]
        return Settings(method=method or o["method"], max_iterations=o["max_iterations"],
                        gradient_rtol=o["gradient_rtol"], reorthogonalize=True)

    def field(self, name: str, spec: Any, grid: Grid) -> np.ndarray:
        """Owned part of a field on a grid [i, j, k]."""
        return np.asfortranarray(evaluate(name, spec, list(grid.edges), self)[grid.local_slice])

    def _mask(self, edges: list[np.ndarray]) -> np.ndarray | None:
        if self.table["grid"]["active"] is not None:
            return evaluate("grid.active", self.table["grid"]["active"], edges, self) > 0.5
        if self.native_edges:
            return resample(mni152(*self.domain)["mask"], self.native_edges, edges) > 0.5
        return None

    def grid(self, comm: MPI.Intracomm, refine: int = 1) -> Grid:
        """The case's grid, or one `refine` times finer. Collective."""
        edges = [refined(e, refine) for e in self.edges]
        boundaries = {}
        for side, b in self.table["boundaries"].items():
            if side[0] in "xyz"[: self.dim]:
                boundaries[side] = Boundary(b) if isinstance(b, str) else Boundary(**b)
        with collective(comm):
            return Grid([e.size - 1 for e in edges], edges=edges, boundaries=boundaries, active=self._mask(edges),
                        comm=comm)

    def space(self, grid: Grid) -> ParameterSpace:
        unknowns = []
        for u in self.table["unknown"]:
            regions = None
            if u["regions"] is not None:
                found = evaluate(f"unknown.{u['name']}.regions", u["regions"], list(grid.edges), self)
                regions = np.rint(found).astype(int)
            bounds = tuple(u["bounds"]) if u["bounds"] else (None, None)
            unknowns.append(Unknown(u["name"], u["transform"], bounds, regions))
        return ParameterSpace(grid, unknowns)

    def terms(self, grid: Grid) -> tuple[list[Term], dict[str, np.ndarray | float]]:
        """Terms and known coefficients on a grid."""
        e, names = self.table["equation"], [u["name"] for u in self.table["unknown"]]
        directions = e["anisotropy"] or "D"
        terms: list[Term] = [Diffusion(grid, directions)]
        known: dict[str, np.ndarray | float] = {}
        wanted = {"D": e["D"] if directions == "D" else None, "c": e["c"], **e["known"]}
        for name, spec in wanted.items():
            if spec is not None and name not in names:
                values = self.field(f"equation.{name}", spec, grid)
                known[name] = values
                if name.startswith("D"):
                    with collective(grid.comm):
                        low = values[grid.active].min(initial=np.inf)
                        if not low > 0:
                            raise InputError(f"equation.{name}", low, "positive values in all active cells")
        if e["c"] is not None or "c" in names:
            terms.append(Reaction(grid, "c"))
        if e["ground"] is not None:
            weights = self.patch(grid, np.asarray(e["ground"]["at"], float), e["ground"].get("radius", 0.0))
            terms.append(Reaction(grid, "ground"))
            known["ground"] = e["ground"]["conductance"] * weights[grid.local_slice] / grid.volume
        if e["velocity"] is not None:
            terms.append(Advection(grid, e["velocity"]))
        return terms, known

    def patch(self, grid: Grid, at: np.ndarray, radius: float) -> np.ndarray:
        """Global array of weights with sum 1: a bump (1 - (r / radius)^2)^2 over the active cells within `radius`, by
        volume, or the cell that holds the point. Raises InputError where that is outside the domain."""
        distance = sum(along2(c - x, d, grid.dim) for d, (c, x) in enumerate(zip(grid.centers, at, strict=True)))
        on = np.ones(grid.shape, bool) if grid.active_global is None else grid.active_global
        inside = on & (distance <= radius**2)
        if not inside.any():
            check_points(grid, at[None], "electrode, well or ground")
            inside = on & (distance == np.where(on, distance, np.inf).min())
        bump = (1 - distance / radius**2) ** 2 if radius > 0 else 1.0
        weights = inside * grid.outer(grid.widths) * bump
        if not weights.sum() > 0:
            weights = inside * grid.outer(grid.widths)
        return np.asfortranarray(weights / weights.sum())

    def electrodes(self) -> np.ndarray:
        """Electrode centres (n, dim) on the outline of the active cells in the middle (or only) axial plane, found on
        the finest native resolution so that all grids share them."""
        if self._electrodes is None:
            e = self.table["experiments"]["electrodes"]
            edges = self.native_edges or self.edges
            mask = self._mask(edges)
            if mask is None:
                mask = np.ones([x.size - 1 for x in edges], bool)
            level = mask.shape[2] // 2 if self.dim == 3 else 0
            plane = mask[:, :, level] if self.dim == 3 else mask
            x, y = ((a[1:] + a[:-1]) / 2 for a in edges[:2])
            i, j = np.nonzero(plane)
            cx, cy = x[i].mean(), y[j].mean()
            angle, r = np.arctan2(y[j] - cy, x[i] - cx), np.hypot(x[i] - cx, y[j] - cy)
            found = []
            for target in 2 * np.pi * np.arange(e["count"]) / e["count"]:
                near = np.abs(np.angle(np.exp(1j * (angle - target)))) < np.pi / max(e["count"], 60)
                k = np.argmax(np.where(near, r, -1))
                pull = max(0.0, 1 - 0.5 * e["radius"] / r[k])
                found.append([cx + pull * (x[i[k]] - cx), cy + pull * (y[j[k]] - cy)])
            self._electrodes = np.array(found)
            if self.dim == 3:
                z = (edges[2][level] + edges[2][level + 1]) / 2
                self._electrodes = np.column_stack([self._electrodes, np.full(len(found), z)])
        return self._electrodes

    @property
    def experiment_count(self) -> int:
        e = self.table["experiments"]
        if e["electrodes"] is not None:
            return int(e["electrodes"]["count"])
        return max(len(e["boundary"] or []), len(e["wells"]), 1)

    def experiments(self, grid: Grid, own: Sequence[int]) -> list[Experiment]:
        e = self.table["experiments"]
        base = self.field("experiments.source", e["source"], grid) * grid.volume
        out = []
        patches = [self.patch(grid, x, e["electrodes"]["radius"])[grid.local_slice] for x in self.electrodes()] \
            if e["electrodes"] else []
        for k in own:
            source = base.copy(order="F")
            if patches:
                source += e["electrodes"].get("current", 1.0) * (patches[k] - patches[self._sink(k)])
            for well in e["wells"][k] if k < len(e["wells"]) else []:
                at = np.asarray(well["at"], float)
                source += well["rate"] * self.patch(grid, at, well.get("radius", 0.0))[grid.local_slice]
            sides = e["boundary"][k] if e["boundary"] and k < len(e["boundary"]) else {}
            out.append(Experiment(source, sides))
        return out

    def points(self) -> np.ndarray:
        """Observation points (n, dim)."""
        o = self.table["observations"]
        if o["at_electrodes"]:
            return self.electrodes()
        if isinstance(o["points"], dict):
            file = self.find("observations.points", o["points"]["file"])
            return np.atleast_2d(read_field(file, o["points"].get("key")))
        if o["points"] is not None:
            return np.atleast_2d(np.asarray(o["points"], float))
        if o["random"] is None:
            raise InputError("observations", "no points", "points, random or at_electrodes")
        rng, found = np.random.default_rng([self.seed, 1]), list[np.ndarray]()
        mask = self._mask(self.edges)
        while len(found) < o["random"]:
            x = np.array([rng.uniform(e[0], e[-1]) for e in self.edges])
            cell = tuple(min(int(np.searchsorted(e, v, side="right")) - 1, e.size - 2)
                         for e, v in zip(self.edges, x, strict=True))
            if mask is None or mask[cell]:
                found.append(x)
        return np.array(found)

    def observation(self, grid: Grid) -> PETSc.Mat:
        """B (data x cells) on a grid. Collective."""
        if not self.table["observations"]["at_electrodes"]:
            return interpolation(grid, self.points())
        radius, comm = self.table["experiments"]["electrodes"]["radius"], grid.comm
        points = self.points()
        own = np.array_split(np.arange(len(points)), comm.size)[comm.rank]
        rows = [self.patch(grid, points[k], radius) for k in own]
        cells = [np.nonzero(r) for r in rows]
        widest = max((len(c[0]) for c in cells), default=1)
        indices, weights = np.zeros((len(own), widest), PETSc.IntType), np.zeros((len(own), widest))
        for n, (r, c) in enumerate(zip(rows, cells, strict=True)):
            order = grid.layout.global_index(list(c))
            indices[n, : order.size], weights[n, : order.size] = order, r[c]
        return from_rows(comm, len(own), (grid.layout.local_size, grid.layout.size), indices, weights, weights != 0)

    def forward(self, grid: Grid, own: Sequence[int]) -> SteadyState:
        with collective(grid.comm):
            experiments = self.experiments(grid, own)
        terms, known = self.terms(grid)
        return SteadyState(self.space(grid), terms, known, experiments, self.observation(grid))

    def start(self, space: ParameterSpace, key: str = "initial") -> PETSc.Vec:
        """Parameters of `initial` or `truth`."""
        values = {}
        for u in self.table["unknown"]:
            spec = u[key]
            if spec is None:
                raise InputError(f"unknown.{u['name']}.truth", "nothing", "a field, where data are simulated")
            field = self.field(f"unknown.{u['name']}.{key}", spec, space.grid)
            found = space.unknown(u["name"])
            values[u["name"]] = field if found.regions is None else self._region_means(space, u["name"], field)
        with collective(space.comm):
            return space.from_values(values)

    @staticmethod
    def _region_means(space: ParameterSpace, name: str, field: np.ndarray) -> np.ndarray:
        u, grid = space.unknown(name), space.grid
        assert u.regions is not None
        region, on = u.regions[grid.local_slice], grid.active
        own = [np.bincount(region[on], w, u.count) for w in (field[on], np.ones(on.sum()))]
        sums = space.comm.allreduce(np.array(own))
        return sums[0] / np.maximum(sums[1], 1)

    def prepare(self, ensemble: Ensemble) -> None:
        """Reads the data, or simulates them on a finer grid with noise. Collective."""
        o, n = self.table["observations"], len(self.points())
        total = self.experiment_count
        if o["data"] is not None:
            with collective(ensemble.space):
                file = self.find("observations.data", o["data"]["file"])
                values = read_field(file, o["data"].get("key"), allow_nan=True)
                if values.size != n * total:
                    raise InputError("observations.data", f"{values.size} values", f"{total} experiments x {n} points")
                self.observed = values.reshape(total, n)
                if o["sigma"] is None:
                    raise InputError("observations.sigma", None, "a positive number with measured data")
            self.sigma = o["sigma"]
            return
        grid = self.grid(ensemble.space, o["refine"])
        own = list(ensemble.own(total))
        forward = self.forward(grid, own)
        m = self.start(forward.space, "truth")
        lin = forward.linearize(m)
        clean = np.zeros((total, n))
        for k, d in zip(own, lin.data, strict=True):
            clean[k] = np.concatenate(ensemble.space.allgather(np.array(d.getArray())))
        if ensemble.groups > 1:
            clean = ensemble.across.bcast(ensemble.across.reduce(clean, root=0), root=0)
        self.sigma = o["sigma"] if o["sigma"] is not None else o["noise"] * float(np.sqrt(np.mean(clean**2)))
        self.observed = clean + self.sigma * np.random.default_rng([self.seed, 2]).standard_normal(clean.shape)
        self._drop_driven(self.observed)
        lin.destroy()
        forward.destroy()
        m.destroy()

    def _drop_driven(self, observed: np.ndarray) -> None:
        """Electrodes that carry current are not read (four-terminal measurement): NaN."""
        e = self.table["experiments"]["electrodes"]
        if e is None or not self.table["observations"]["at_electrodes"]:
            return
        for k in range(len(observed)):
            observed[k, [k, self._sink(k)]] = np.nan

    def _sink(self, k: int) -> int:
        e = self.table["experiments"]["electrodes"]
        n = e["count"]
        return (k + (1 if e.get("pattern", "opposite") == "adjacent" else n // 2)) % n

    def build(self, grid: Grid, ensemble: Ensemble) -> tuple[Objective, PETSc.Vec]:
        """The objective and the starting parameters on a grid. Collective."""
        own = list(ensemble.own(self.experiment_count))
        forward = self.forward(grid, own)
        layout = forward.observations[0].createVecLeft() if own else PETSc.Vec().createMPI(0, comm=grid.comm)
        assert self.observed is not None
        misfits = [self._misfit(self.observed[k], layout) for k in own]
        m = self.start(forward.space)
        regularizers = {}
        for r in self.table["regularization"]:
            name = r["unknown"] or next(u["name"] for u in self.table["unknown"] if u["regions"] is None)
            regularizers[name] = self._regularizer(r, name, forward.space, m)
        return Objective(forward, misfits, regularizers, ensemble), m

    def _misfit(self, observed: np.ndarray, layout: PETSc.Vec) -> Misfit:
        kind = self.table["misfit"]["kind"]
        extra = {"huber": {"threshold": self.table["misfit"]["threshold"]},
                 "student-t": {"nu": self.table["misfit"]["nu"]}}.get(kind, {})
        return MISFITS[kind](observed, self.sigma, layout, **extra)

    def _regularizer(self, r: dict[str, Any], name: str, space: ParameterSpace, m: PETSc.Vec) -> Any:
        grid = space.grid
        reference = space.field_vec(m, name)
        if r["reference"] is not None:
            values = self.field("regularization.reference", r["reference"], grid)
            with collective(grid.comm):
                grid.view(reference)[...] = np.where(grid.active, space.unknown(name).inverse(values), 0.0)
        keys = {"gradient": ("directions",), "bilaplacian": ("gamma", "delta", "correlation_length", "variance",
                                                              "directions"), "total-variation": ("epsilon",)}
        options = {k: r[k] for k in keys[r["kind"]] if r[k] is not None}
        if r["cell_weights"] is not None and r["kind"] != "bilaplacian":
            options["cell_weights"] = self.field("regularization.cell_weights", r["cell_weights"], grid)
        weight = self.weight_override if self.weight_override is not None else r["weight"]
        return REGULARIZERS[r["kind"]](grid, weight, reference, **options)


def refined(edges: np.ndarray, factor: int) -> np.ndarray:
    """Edges with every cell cut into `factor`."""
    parts = np.arange(factor) / factor
    return np.append((edges[:-1, None] + np.diff(edges)[:, None] * parts).ravel(), edges[-1])


def along2(offsets: np.ndarray, axis: int, dim: int) -> np.ndarray:
    """Squares laid along an axis for broadcasting."""
    return (offsets**2).reshape([-1 if d == axis else 1 for d in range(dim)])
