"""A case: -div(D grad u) + c u = f with unknown D or c, its data, and how both look on any grid of a hierarchy."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from npde_opt.cases.data import Data, read_data, simulate
from npde_opt.cases.domain import Domain
from npde_opt.cases.evolution_case import EvolutionCase
from npde_opt.cases.evolution_schema import substitute
from npde_opt.cases.fields import evaluate
from npde_opt.cases.limits import FILE_BYTES, check_raw
from npde_opt.cases.places import Places
from npde_opt.cases.regions import means, numbers
from npde_opt.cases.schema import validate
from npde_opt.cases.sources import Sources
from npde_opt.cases.typed import shown
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, collective
from npde_opt.forward import Equation, Steady
from npde_opt.functions.text import check_name
from npde_opt.grids import Grid
from npde_opt.misfits import MISFITS, Misfit
from npde_opt.objective import Objective
from npde_opt.observations import observation_matrix
from npde_opt.optimizers import Settings
from npde_opt.parameters import Block, Field, ParameterSpace, Regions, Unknown
from npde_opt.regularizers import REGULARIZERS
from npde_opt.terms import Advection, Diffusion, LinearTerm, Reaction

HUGE = re.compile(r"""^\s*["']?([\w.+-]+)["']?\s*=\s*[-+]?(\d{1000,})""", re.MULTILINE)
"""A key with more digits than Python reads."""
INSTEAD = {"edges": ("shape", "extent"), "shape": ("edges",), "extent": ("edges",)}
"""A key of [grid], and those of the grid's file that it replaces beside its own."""
RULES = ("discrepancy", "l-curve")
OPTIONS = {"gradient": ("directions",), "total-variation": ("epsilon",),
           "bilaplacian": ("gamma", "delta", "correlation_length", "variance", "directions")}


def load_case(path: str | os.PathLike, comm: MPI.Intracomm = MPI.COMM_WORLD, *, cells: Sequence[int] | None = None,
              data: str | os.PathLike | None = None, seed: int = 0,
              variables: Mapping[str, str] | None = None, memory: str | None = None) -> Case | EvolutionCase:
    """Reads and validates a case on every rank; one with an [evolution] section is an EvolutionCase. `variables` replace
    those of its [variables] section, `memory` its budget. Raises InputError naming the key that is wrong."""
    with collective(comm):
        file = Path(path)
        raw = read_toml(file, "--case")
        check_raw("", {k: v for k, v in raw.items() if k != "variables"})
        grid = raw.get("grid")
        if isinstance(grid, dict) and isinstance(grid.get("file"), str):
            shared = read_toml(file.parent / grid["file"], "grid.file")
            hidden = [k for key, others in INSTEAD.items() if key in grid for k in others]
            kept = {k: v for k, v in shared.items() if k not in hidden}
            raw["grid"] = kept | {k: v for k, v in grid.items() if k != "file"}
        if data is not None and not Path(data).is_dir():
            raise InputError("--data", data, "an existing folder")
        folder = Path(data) if data else None
        values = _variables(raw, variables or {})
        if "evolution" in raw:
            case = EvolutionCase(substitute(raw, values), file, cells, folder, seed)
            case.memory = memory or case.memory
            return case
        if memory:
            raise InputError("--memory", memory, "a case with an [evolution] section")
        return Case(raw, file, cells, folder, seed)


def _variables(raw: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    known = raw.get("variables", {})
    if not isinstance(known, dict):
        raise InputError("variables", shown(known), "a table {name = text or number}")
    for name, value in known.items():
        check_name(name, "variables: name")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InputError(f"variables.{name}", shown(value), "a text or a number")
    check_raw("variables", known)
    for name, text in given.items():
        if name not in known:
            raise InputError("--set", name, ", ".join(known) or "nothing: the case has no [variables]")
        if len(text) > 1000 or not text.isprintable():
            raise InputError(f"--set {name}", shown(text), "a printable text of at most 1,000 characters")
    return {**known, **given}


def read_toml(file: Path, field: str) -> dict[str, Any]:
    """A TOML file's tables. Raises InputError naming `field`."""
    try:
        if not file.is_file():
            raise InputError(field, str(file), "an existing TOML file")
        if file.stat().st_size > FILE_BYTES:
            raise InputError(f"{field} {file}", f"{file.stat().st_size:,} bytes", f"at most {FILE_BYTES:,}")
        text = file.read_text(encoding="utf-8-sig")
        if huge := HUGE.search(text):
            raise InputError(huge[1], f"an integer of {len(huge[2]):,} digits", "integers of 64 bits")
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{field} {file}", "lists or tables too deep in each other", "a shallow TOML file") from None
    except (ValueError, OSError) as error:  # of TOML, of the encoding
        raise InputError(f"{field} {file}", str(error).splitlines()[0][:200], "valid TOML") from error


class Case:
    """A validated case; `grid`, `prepare` and `build` make its PETSc objects."""

    def __init__(self, raw: dict[str, Any], path: Path, cells: Sequence[int] | None, data: Path | None, seed: int):
        self.table, self.path, self.seed = validate(raw), path, seed
        self.name = path.stem
        anatomy = self.table["domain"]
        sources = Sources(path.parent, data, (anatomy["mni152"], anatomy["slice"]), anatomy["crop"],
                          self.table["case"]["length_unit"])
        self.domain = Domain(self.table, sources, cells)
        self.sources = self.domain.sources
        self.places = Places(self.domain, seed)
        self.data: Data | None = None
        self.weight_override: float | None = None
        self._check()

    def _check(self) -> None:
        names = [u["name"] for u in self.table["unknown"]]
        o = self.table["observations"]
        for name in names:
            if name not in (*self.diffusivities, "c"):
                raise InputError("unknown.name", repr(name), ", ".join((*self.diffusivities, "c")))
        for u in self.table["unknown"]:
            for key in ("initial", "truth"):
                self._positive(f"unknown.{u['name']}.{key}", u[key], u["name"])
        for key, name, spec in self._given_coefficients():
            if name not in names:
                self._positive(key, spec, name)
        taken = [self.regularized(r) for r in self.table["regularization"]]
        if len(set(taken)) < len(taken):
            raise InputError("regularization", f"{len(taken)} tables for {', '.join(taken)}", "one an unknown")
        for r in self.table["regularization"]:
            if isinstance(r["weight"], str) and r["weight"] not in RULES:
                raise InputError("regularization.weight", r["weight"], "a number, 'discrepancy' or 'l-curve'")
        if isinstance(o["sigma"], dict) and o["data"] is None:
            raise InputError("observations.sigma", "a file", "a number, where data are simulated")
        for name in ("sigma", "noise"):
            if isinstance(o[name], int | float) and not o[name] > 0:
                raise InputError(f"observations.{name}", o[name], "a positive number")
        self.settings()

    def _positive(self, field: str, spec: Any, name: str) -> None:
        if name in self.diffusivities and isinstance(spec, int | float) and not spec > 0:
            raise InputError(field, spec, "a positive number (a conductivity or diffusivity)")

    def _given_coefficients(self) -> list[tuple[str, str, Any]]:
        """(key, name, field) of the coefficients that the equation gives."""
        e = self.table["equation"]
        own = {name: (f"equation.{name}", name, e[name]) for name in ("D", "c")}
        known = {name: (f"equation.known.{name}", name, spec) for name, spec in e["known"].items()}
        return list((own | known).values())

    @property
    def diffusivities(self) -> list[str]:
        """Names of the coefficients of the diffusion term."""
        return self.table["equation"]["anisotropy"] or ["D"]

    @property
    def experiment_count(self) -> int:
        return self.places.experiment_count

    def regularized(self, r: dict[str, Any]) -> str:
        """The unknown that a regularization table acts on."""
        fields = [u["name"] for u in self.table["unknown"] if u["regions"] is None]
        name: str = r["unknown"] or (fields[0] if fields else "")
        if name not in fields:
            raise InputError("regularization.unknown", repr(name), f"an unknown field: {', '.join(fields) or 'there is none'}")
        return name

    def settings(self, method: str | None = None) -> Settings:
        o = self.table["optimizer"]
        return Settings(method=method or o["method"], max_iterations=o["max_iterations"],
                        gradient_rtol=o["gradient_rtol"], decrement=o["decrement"],
                        insist=o["insist"])

    def set_petsc_options(self) -> None:
        """Puts the case's [petsc] into the options database, where the command line says nothing else."""
        options = PETSc.Options()
        for name, value in self.table["petsc"].items():
            if not options.hasName(name):
                options.setValue(name, value)

    def field(self, name: str, spec: Any, grid: Grid) -> np.ndarray:
        """Owned part of a field on a grid [i, j, k]."""
        return np.asfortranarray(evaluate(name, spec, list(grid.edges), self.sources)[grid.local_slice])

    def grid(self, comm: MPI.Intracomm) -> Grid:
        """The grid that is inverted. Collective."""
        return self.domain.grid(comm)

    def space(self, grid: Grid) -> ParameterSpace:
        unknowns = []
        for u in self.table["unknown"]:
            block: Block = Field()
            if u["regions"] is not None:
                block = Regions(*numbers(f"unknown.{u['name']}.regions", u["regions"], self.domain, grid))
            unknowns.append(Unknown(u["name"], u["transform"], tuple(u["bounds"] or (None, None)), block))
        return ParameterSpace(grid, unknowns)

    def terms(self, grid: Grid) -> tuple[list[LinearTerm], dict[str, np.ndarray | float]]:
        """Terms and known coefficients on a grid."""
        e, names = self.table["equation"], [u["name"] for u in self.table["unknown"]]
        terms: list[LinearTerm] = [Diffusion(grid, e["anisotropy"] or "D")]
        known: dict[str, np.ndarray | float] = {}
        for key, name, spec in self._given_coefficients():
            if spec is not None and name not in names and (name != "D" or e["anisotropy"] is None):
                values = self.field(key, spec, grid)
                known[name] = values
                if name in self.diffusivities:
                    low = values[grid.active].min(initial=np.inf)
                    if not low > 0:
                        raise InputError(key, low, "positive values in all active cells")
        if e["c"] is not None or "c" in names:
            terms.append(Reaction(grid, "c"))
        if e["ground"] is not None:
            terms.append(Reaction(grid, "ground"))
            known["ground"] = self.places.ground(grid)
        if e["velocity"] is not None:
            terms.append(Advection(grid, e["velocity"]))
        return terms, known

    def forward(self, grid: Grid, own: Sequence[int]) -> Steady:
        """The forward map of the experiments numbered in `own`. Collective."""
        with collective(grid.comm):
            terms, known = self.terms(grid)
            source = self.field("experiments.source", self.table["experiments"]["source"], grid)
            experiments = self.places.experiments(grid, own, source)
            space, functionals = self.space(grid), self.places.functionals(grid)
        observation = observation_matrix(grid, functionals, "observations.points")
        return Steady(space, Equation(grid, terms), known, experiments, observation)

    def start(self, space: ParameterSpace, key: str = "initial") -> PETSc.Vec:
        """Parameters of `initial` or `truth`. Collective."""
        values: dict[str, np.ndarray | float] = {}
        with collective(space.comm):
            for u in self.table["unknown"]:
                field = f"unknown.{u['name']}.{key}"
                if u[key] is None:
                    raise InputError(field, "nothing", "a field, where data are simulated")
                found = self.field(field, u[key], space.grid)
                low = found[space.grid.active].min(initial=np.inf)
                if u["name"] in self.diffusivities and not low > 0:
                    raise InputError(field, low, "positive values in all active cells (a conductivity or diffusivity)")
                values[u["name"]] = found
        tables = {u["name"]: u for u in self.table["unknown"]}
        with collective(space.comm):
            for constants in space.unknowns:
                if isinstance(constants.block, Regions):
                    name = constants.name
                    values[name] = means(space, constants, np.asarray(values[name]), self.domain, key, tables[name])
            return space.from_values(values)

    def prepare(self, ensemble: Ensemble) -> Data:
        """Reads the data, or simulates them on a finer grid with noise. Collective."""
        with ensemble.together():
            grid = self.grid(ensemble.space)
            self.places.check(grid)
            if self.table["observations"]["data"] is not None:
                self.data = read_data(self, len(self.places.functionals(grid)))
        grid.destroy()
        if self.data is None:
            self.data = simulate(self, ensemble)
        return self.data

    def build(self, grid: Grid, ensemble: Ensemble) -> tuple[Objective, PETSc.Vec]:
        """The objective and the starting parameters on a grid. Collective."""
        own = list(ensemble.own(self.experiment_count))
        forward = self.forward(grid, own)
        layout = forward.observers[0].create_vec() if own else PETSc.Vec().createMPI(0, comm=grid.comm)
        misfits = [self._misfit(k, layout) for k in own]
        m = self.start(forward.space)
        return Objective(forward, misfits, self.regularizers(forward.space, m), ensemble), m

    def regularizers(self, space: ParameterSpace, m: PETSc.Vec) -> dict[str, Any]:
        """By unknown, with the weights given or chosen, around the parameters m. Collective."""
        named = [(f"regularization[{i}]", r, self.regularized(r)) for i, r in enumerate(self.table["regularization"])]
        return {name: self._regularizer(field, r, name, space, m) for field, r, name in named}

    def _misfit(self, k: int, layout: PETSc.Vec) -> Misfit:
        kind = self.table["misfit"]["kind"]
        extra = {"huber": {"threshold": self.table["misfit"]["threshold"]},
                 "student-t": {"nu": self.table["misfit"]["nu"]}}.get(kind, {})
        assert self.data is not None
        sigma = self.data.sigma if np.ndim(self.data.sigma) == 0 else np.asarray(self.data.sigma)[k]
        return MISFITS[kind](self.data.observed[k], sigma, layout, **extra)

    def _regularizer(self, field: str, r: dict[str, Any], name: str, space: ParameterSpace, m: PETSc.Vec) -> Any:
        grid = space.grid
        reference = space.block_vec(m, name)
        options = {k: r[k] for k in OPTIONS[r["kind"]] if r[k] is not None}
        with collective(grid.comm):
            if r["reference"] is not None:
                values = self.field(f"{field}.reference", r["reference"], grid)
                grid.view(reference)[grid.active] = space.unknown(name).inverse(values[grid.active])
            if r["cell_weights"] is not None:
                if r["kind"] == "bilaplacian":
                    raise InputError(f"{field}.cell_weights", "given", "gradient and total-variation only")
                options["cell_weights"] = self.field(f"{field}.cell_weights", r["cell_weights"], grid)
        weight = r["weight"]
        if isinstance(weight, str):
            assert self.weight_override is not None
            weight = self.weight_override
        return REGULARIZERS[r["kind"]](grid, weight, reference, **options)
