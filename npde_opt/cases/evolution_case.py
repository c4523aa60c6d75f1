"""A case of an evolution equation: terms, initial states, observations and unknowns, and how they look on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from petsc4py import PETSc

from npde_opt.capacity import fits
from npde_opt.cases.domain import Domain, sized
from npde_opt.cases.evolution_data import Series, floor, prepare
from npde_opt.cases.evolution_schema import validate_evolution
from npde_opt.cases.fields import evaluate
from npde_opt.cases.histories import check, places, span
from npde_opt.cases.places import points_of, read_points
from npde_opt.cases.regions import means, numbers
from npde_opt.cases.sources import Sources
from npde_opt.cases.tables import read_values
from npde_opt.cases.typed import shown
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError, SolverError, collective
from npde_opt.forward import Equation, Evolution, Experiment, Storage, scheme
from npde_opt.forward.steps import STEP_BYTES, TooFewSteps, accurate, doubling, equal, with_stops
from npde_opt.forward.storage import Plan
from npde_opt.functions.text import Expressions, gamma_of
from npde_opt.grids import AXES, Grid
from npde_opt.misfits import MISFITS, CorrelatedErrors, Misfit, ProportionalErrors
from npde_opt.objective import Objective
from npde_opt.observations import Sampling, at_points, over_regions, voxels
from npde_opt.optimizers import Settings
from npde_opt.parameters import Block, Field, ParameterSpace, Regions, Shared, Unknown
from npde_opt.regularizers import REGULARIZERS
from npde_opt.regularizers.small import SmallPrior
from npde_opt.terms import Absorbing, Advection, Diffusion, Kinetics, NonlinearDiffusion, Reaction, Source
from npde_opt.terms.absorbing import absorbing_rate

OPTIONS = {"gradient": ("directions",), "total-variation": ("epsilon",),
           "bilaplacian": ("gamma", "delta", "correlation_length", "variance", "directions")}
FEWEST = 8
VALUE_BYTES = 1000
"""At least, of a value of a history: vectors of an optimizer, its column in reports."""
TIME_BYTES = 10_000
"""At least, of a time at which an experiment is observed: data of some places, and where they are in the steps."""
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


class EvolutionCase:
    """A validated case; `grid`, `prepare` and `build` make its PETSc objects."""

    def __init__(self, raw: dict[str, Any], path: Path, shape: Sequence[int] | None, data: Path | None, seed: int):
        self.table, self.path, self.seed = validate_evolution(raw), path, seed
        self.name = path.stem
        anatomy = self.table["domain"]
        sources = Sources(path.parent, data, (anatomy["mni152"], anatomy["slice"]), anatomy["crop"],
                          self.table["case"]["length_unit"])
        self.domain = Domain(self.table, sources, shape)
        self.sources = self.domain.sources
        self._read_histories()
        if any(o["data"] is None for o in self.table["observation"]):
            factor = self.table["simulation"]["refine"]
            sized("simulation.refine", [(e.size - 1) * factor for e in self.domain.edges])
        for u in self.table["unknown"]:
            n = u["length"] or 0
            fits(f"unknown.{u['name']}.length", n, VALUE_BYTES)
        self.memory: str = self.table["evolution"]["memory"]
        self.data: Series | None = None
        self.plan: Plan | None = None
        self._chosen: np.ndarray | None = None
        self.weight_override: float | None = None
        self.species = tuple(self.table["evolution"]["species"])
        self.settings()

    def _read_histories(self) -> None:
        """Histories of sources and their times that are columns of files become lists, and are checked."""
        tables = {f"evolution.terms[{i}]": t for i, t in enumerate(self.table["evolution"]["terms"]) if "source" in t}
        for e, x in enumerate(self.table["experiment"]):
            tables |= {f"experiment[{e}].sources[{i}]": s for i, s in enumerate(x["sources"])}
        for where, table in tables.items():
            for key in ("history", "times"):
                if isinstance(table.get(key), dict):
                    values = read_values(f"{where}.{key}", table[key], self.sources, allow_nan=False)
                    table[key] = values.ravel().tolist()
            check(where, table, span(self.table["evolution"]["times"]))

    @property
    def experiment_count(self) -> int:
        return len(self.table["experiment"])

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

    def grid(self, comm: Any) -> Grid:
        return self.domain.grid(comm)

    def field(self, name: str, spec: Any, grid: Grid) -> np.ndarray:
        """Owned part of a field on a grid [i, j, k]."""
        return np.asfortranarray(evaluate(name, spec, list(grid.edges), self.sources)[grid.local_slice])

    def times(self) -> np.ndarray:
        spec = self.table["evolution"]["times"]
        if self._chosen is not None:
            return self._chosen
        if isinstance(spec, list):
            if np.any(np.diff(spec) <= 0):
                raise InputError("evolution.times", shown(spec), "times that increase")
            return np.asarray(spec, float)
        start = spec.get("start", 0.0)
        if "steps" in spec:
            return equal(start, spec.get("end", 0.0), spec["steps"])
        if "first" in spec:
            return doubling(start, spec["first"], spec.get("end", 0.0), spec.get("repeats", 8))
        if "tolerance" in spec:
            return equal(start, spec.get("end", 0.0), FEWEST)
        raise InputError("evolution.times", spec, "a list, {end, steps}, {end, first, repeats} or {end, tolerance}")

    def choose_steps(self, ensemble: Ensemble) -> None:
        """Equal steps as accurate as `tolerance` asks at the initial parameters, where it does. Collective."""
        spec = self.table["evolution"]["times"]
        if isinstance(spec, list) or "tolerance" not in spec or self._chosen is not None:
            return
        grid, own = self.grid(ensemble.space), list(ensemble.own(self.experiment_count))

        def predict(times: np.ndarray) -> np.ndarray:
            self._chosen = times
            with ensemble.together():
                data, problem = self._tried(grid, own)
            parts = ensemble.across.allgather((problem, data))
            for problem, _ in parts:
                if problem:
                    raise TooFewSteps(problem)
            return np.concatenate([x for _, part in parts for x in part])

        order = scheme(self.table["evolution"]["scheme"]).order
        start, tolerance = spec.get("start", 0.0), float(spec["tolerance"])
        self._chosen = accurate(predict, start, spec.get("end", 0.0), order, tolerance, FEWEST)

    def _tried(self, grid: Grid, own: Sequence[int]) -> tuple[list[np.ndarray], str]:
        """Predicted data of a group's experiments with the present steps, or why there are none. Collective in the group."""
        data: list[np.ndarray] = []
        forward = self.forward(grid, own)
        m = self.start(forward.space)
        try:
            lin = forward.linearize(m)
            data = [o.gather(d) for o, d in zip(forward.observers, lin.data, strict=True)]
            lin.destroy()
        except (SolverError, InputError) as error:
            if isinstance(error, InputError) and error.field != "times":
                raise
            return [], str(error)
        finally:
            m.destroy()
            forward.destroy()
        return data, ""

    def _gamma(self) -> complex:
        return gamma_of("evolution.gamma", self.table["evolution"]["gamma"])

    def terms(self, grid: Grid) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Terms, and known coefficients on a grid."""
        known: dict[str, np.ndarray] = {}
        for name, spec in self.table["evolution"]["known"].items():
            known[name] = np.asarray(float(spec)) if isinstance(spec, int | float) else \
                self.field(f"evolution.known.{name}", spec, grid)
        found = [self._term(f"evolution.terms[{i}]", t, grid, known) for i, t in enumerate(self.table["evolution"]["terms"])]
        return found, known

    def _term(self, field: str, t: dict[str, Any], grid: Grid, known: dict[str, np.ndarray]) -> Any:
        species = t.get("species", self.species[0])
        on = t.get("species") if self._gamma().imag == 0 else None
        if "diffusion" in t:
            return Diffusion(grid, t["diffusion"], on)
        if "nonlinear-diffusion" in t:
            return NonlinearDiffusion(grid, self.species, species, t["nonlinear-diffusion"], t.get("floor"),
                                      f"{field}.nonlinear-diffusion")
        if "advection" in t:
            return Advection(grid, t["advection"], t["scheme"], on)
        if "reaction" in t:
            return Reaction(grid, t["reaction"], on, field=f"{field}.reaction")
        if "absorbing" in t:
            rate = absorbing_rate(grid, t["absorbing"], t["speed"], t["depth"])
            name = f"absorbing rate {len(known)}"
            known[name] = abs(self._gamma()) * rate
            return Absorbing(grid, name, named=True)
        if "kinetics" in t:
            return Kinetics(grid, self.species, t["kinetics"], f"{field}.kinetics")
        return Source(grid, self.species, species, t["source"], t.get("history"), t["times"],
                      t["interpolation"], field, "source")

    def space(self, grid: Grid) -> ParameterSpace:
        unknowns = []
        for u in self.table["unknown"]:
            bounds = tuple(u["bounds"] or (None, None))
            unknowns.append(Unknown(u["name"], u["transform"], bounds, self._block(u, grid)))
        return ParameterSpace(grid, unknowns)

    def _block(self, u: dict[str, Any], grid: Grid) -> Block:
        """The block of parameters of an unknown's table."""
        name = f"unknown.{u['name']}"
        if u["kind"] == "scalar":
            return Shared()
        if u["kind"] == "history":
            return Shared(u["length"])
        if u["regions"] is not None:
            return Regions(*numbers(f"{name}.regions", u["regions"], self.domain, grid))
        if u["known"] is None:
            return Field()
        mask, kept = (evaluate(f"{name}.{key}", u[key], list(grid.edges), self.sources) for key in ("known", "initial"))
        return Field(fixed=np.where(mask > 0.5, kept, np.nan))

    def value(self, u: dict[str, Any], key: str, space: ParameterSpace) -> Any:
        """A start or truth: small arrays as they are, fields evaluated, region constants as means of a field."""
        found, spec = space.unknown(u["name"]), u[key]
        if spec is None:
            raise InputError(f"unknown.{u['name']}.{key}", "nothing", "a value, where data are simulated")
        if isinstance(found.block, Shared):
            try:
                values = np.broadcast_to(np.asarray(spec, float), found.block.count)
                self.sources.log.note(f"unknown.{u['name']}.{key}", "a list" if np.ndim(spec) else "", values)
                return values
            except (ValueError, TypeError) as error:
                raise InputError(f"unknown.{u['name']}.{key}", spec, f"a number, or {found.block.count} numbers") from error
        field = self.field(f"unknown.{u['name']}.{key}", spec, space.grid)
        return means(space, found, field, self.domain, key, u) if isinstance(found.block, Regions) else field

    def start(self, space: ParameterSpace, key: str = "initial") -> PETSc.Vec:
        return space.from_values({u["name"]: self.value(u, key, space) for u in self.table["unknown"]})

    def trials(self, grid: Grid, own: Sequence[int]) -> list[Experiment]:
        found = []
        for e in own:
            x = self.table["experiment"][e]
            initial = {s: v if isinstance(v, str) else self.field(f"experiment[{e}].initial.{s}", v, grid)
                       for s, v in x["initial"].items()}
            sources = [Source(grid, self.species, y["species"] or self.species[0], y["shape"], y["history"], y["times"],
                              y["interpolation"], f"experiment[{e}].sources[{i}]")
                       for i, y in enumerate(x["sources"])]
            found.append(Experiment(initial, sources, boundary=x["boundary"], where=f"experiment[{e}]."))
        return found

    def samplings(self, grid: Grid) -> list[Sampling]:
        return [self._sampling(f"observation[{i}]", o, grid) for i, o in enumerate(self.table["observation"])]

    def observed_times(self, field: str, o: dict[str, Any]) -> np.ndarray:
        spec = o["times"]
        if isinstance(spec, list):
            return np.asarray(spec, float)
        if "file" in spec:
            return read_values(f"{field}.times", spec, self.sources, allow_nan=False).ravel()
        fits(f"{field}.times.count", spec["count"] * self.experiment_count, TIME_BYTES, "times, all experiments together")
        return np.linspace(spec["start"], spec["end"], spec["count"])

    def _sampling(self, field: str, o: dict[str, Any], grid: Grid) -> Sampling:
        times = self.observed_times(field, o).tolist()
        if o["points"] is not None:
            points = read_points(f"{field}.points", o["points"], self.sources, grid.dim) if isinstance(o["points"], dict) \
                else points_of(o["points"], grid.dim, f"{field}.points")
            elsewhere = not self.domain.is_own(grid)
            return at_points(grid, times, points, o["quantity"], f"{field}.points", elsewhere)
        if o["regions"] is not None:
            regions, count = numbers(f"{field}.regions", o["regions"], self.domain, grid, least=-1)
            coarser = grid.size < np.prod([e.size - 1 for e in self.domain.edges])
            return over_regions(grid, times, regions, o["quantity"], count, f"{field}.regions", bool(coarser))
        return voxels(grid, times, self.domain.edges, o["quantity"])

    def forward(self, grid: Grid, own: Sequence[int], cut: int = 1, storage: Storage | None = None) -> Evolution:
        """The map of the experiments in `own`; every step is cut into `cut`."""
        e, times = self.table["evolution"], self.cut_times(cut)
        with collective(grid.comm):
            terms, known = self.terms(grid)
            equation = Equation(grid, terms, self.species, self._gamma())
            trials, space = self.trials(grid, own), self.space(grid)
            self._check_unknowns(space, equation, grid)
        return Evolution(space, equation, known, trials, self.samplings(grid), scheme(e["scheme"]), times,
                         storage or self._storage(grid), bound=e["bound"], recipe=e["recipe"])

    def cut_times(self, cut: int = 1) -> np.ndarray:
        """Ends of the steps, each cut into `cut`. Raises InputError for more than the machine can hold."""
        times = with_stops(self.times(), self._breakpoints())
        if cut == 1:
            return times
        fits("simulation.steps", cut * times.size, STEP_BYTES, "steps")
        parts = np.arange(cut) / cut
        return np.append((times[:-1, None] + np.diff(times)[:, None] * parts).ravel(), times[-1])

    def _breakpoints(self) -> list[float]:
        """Of the histories of all experiments, so that all groups of experiments take the same steps."""
        tables = [*self.table["evolution"]["terms"], *(y for x in self.table["experiment"] for y in x["sources"])]
        return [t for table in tables if table.get("history") is not None for t in table["times"]]

    def _check_unknowns(self, space: ParameterSpace, equation: Equation, grid: Grid) -> None:
        """Raises InputError for unknowns that nothing depends on, and for coefficients by name that are neither known nor
        unknown."""
        used = set(equation.coefficients)
        for e, x in enumerate(self.table["experiment"]):
            used |= {y["history"] for y in x["sources"] if isinstance(y["history"], str)}
            texts = {f"initial.{s}": text for s, text in x["initial"].items()}
            texts |= {f"sources[{i}].shape": y["shape"] for i, y in enumerate(x["sources"])}
            for key, text in texts.items():
                if isinstance(text, str):
                    used |= set(Expressions([text], AXES[: grid.dim], f"experiment[{e}].{key}").parameters)
        given = [*self.table["evolution"]["known"], *(u.name for u in space.unknowns)]
        for key, name in self._coefficient_names():
            if name not in given:
                raise InputError(key, repr(name), "a coefficient of evolution.known or an [[unknown]]: "
                                 + (", ".join(given) or "there is none"))
        for u in space.unknowns:
            if u.name not in used:
                raise InputError(f"unknown.{u.name}", "in no term, initial state or source",
                                 "a coefficient of theirs: " + (", ".join(sorted(used)) or "there is none"))

    def _coefficient_names(self) -> list[tuple[str, str]]:
        """Coefficients that terms and sources have by name: (key, name)."""
        found = []
        for i, t in enumerate(self.table["evolution"]["terms"]):
            names = t.get("diffusion", [])
            found += [(f"evolution.terms[{i}].diffusion", n) for n in ([names] if isinstance(names, str) else names)]
            found += [(f"evolution.terms[{i}].{key}", t[key]) for key in ("reaction", "history")
                      if isinstance(t.get(key), str) and t[key].isidentifier()]
        for e, x in enumerate(self.table["experiment"]):
            found += [(f"experiment[{e}].sources[{i}].history", y["history"]) for i, y in enumerate(x["sources"])
                      if isinstance(y["history"], str)]
        return found

    def _storage(self, grid: Grid) -> Storage:
        if not self.memory:
            return Storage()
        text = self.memory.strip().upper()
        unit = next((u for u in UNITS if text.endswith(u)), "")
        try:
            size = float(text.removesuffix(unit)) * UNITS.get(unit, 1.0)
        except ValueError as error:
            raise InputError("--memory", self.memory, "a number with KB, MB, GB or TB") from error
        if not 0 < size < np.inf:
            raise InputError("--memory", self.memory, "a positive, finite number with KB, MB, GB or TB")
        return Storage(size / grid.comm.size)

    def prepare(self, ensemble: Ensemble) -> Series:
        """Reads the data, or simulates them on a finer grid with noise. Collective."""
        self.data = prepare(self, ensemble)
        return self.data

    def build(self, grid: Grid, ensemble: Ensemble) -> tuple[Objective, PETSc.Vec]:
        """The objective and the starting parameters on a grid. Collective."""
        own = list(ensemble.own(self.experiment_count))
        forward = self.forward(grid, own)
        assert self.data is not None
        misfits = [self._misfit(forward, k, self.data.observed[e], self.data.sigma[e]) for k, e in enumerate(own)]
        with collective(grid.comm):
            m = self.start(forward.space)
        return Objective(forward, misfits, self.regularizers(forward.space, m), ensemble), m

    def _misfit(self, forward: Evolution, k: int, observed: np.ndarray, sigma: np.ndarray) -> Misfit:
        t, observer = self.table["misfit"], forward.observers[k]
        assert self.data is not None
        layout, y, s = observer.create_vec(), observer.arrange(observed), observer.arrange(sigma)
        unseen = observer.arrange(observer.unseen())
        y = np.where(unseen > 0, np.nan, y)
        if t["kind"] == "proportional":
            return ProportionalErrors(y, s, layout, t["power"], floor(self, self.data.observed))
        if t["kind"] == "correlated":
            n = len(observer.samplings[0].times)
            return CorrelatedErrors(y, s, layout, t["correlation"] ** np.abs(np.subtract.outer(np.arange(n), np.arange(n))))
        extra = {"huber": {"threshold": t["threshold"]}, "student-t": {"nu": t["nu"]}}.get(t["kind"], {})
        return MISFITS[t["kind"]](y, s, layout, **extra)

    def regularizers(self, space: ParameterSpace, m: PETSc.Vec) -> dict[str, Any]:
        """By unknown, with the weights given or chosen, around the parameters m. Collective."""
        found: dict[str, Any] = {}
        for i, r in enumerate(self.table["regularization"]):
            name, field = r["unknown"], f"regularization[{i}]"
            reference = space.block_vec(m, name)
            if r["reference"] is not None:
                values = self.field(f"{field}.reference", r["reference"], space.grid)
                on = space.grid.active
                space.grid.view(reference)[on] = space.unknown(name).inverse(values[on])
            weight = self.weight_override if isinstance(r["weight"], str) else r["weight"]
            options = {k: r[k] for k in OPTIONS[r["kind"]] if r[k] is not None}
            if r["cell_weights"] is not None:
                if r["kind"] == "bilaplacian":
                    raise InputError(f"{field}.cell_weights", "given", "gradient and total-variation only")
                options["cell_weights"] = self.field(f"{field}.cell_weights", r["cell_weights"], space.grid)
            found[name] = REGULARIZERS[r["kind"]](space.grid, weight, reference, **options)
        for u, table in zip(space.unknowns, self.table["unknown"], strict=True):
            if u.block.count and (table["deviation"] is not None or table["smoothness"] > 0):
                found[u.name] = SmallPrior(space.comm, u.block.count, 1.0 if table["deviation"] is not None else 0.0,
                                           space.values(m, u.name), table["deviation"] or 1.0, table["smoothness"],
                                           places(self.table, u.name, u.block.count) if table["smoothness"] > 0 else None)
        return found
