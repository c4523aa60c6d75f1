"""A case on one grid: its unknowns, equation, experiments and observations there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from petsc4py import PETSc

from npde_opt.aliases import Coefficients, Plain, Record
from npde_opt.cases.domain import Domain
from npde_opt.cases.electrodes import Electrodes
from npde_opt.cases.experiment_tables import ExperimentSection, Well
from npde_opt.cases.fields import evaluate_part
from npde_opt.cases.observed import Observed
from npde_opt.cases.parts import Part
from npde_opt.cases.patches import Patch, patch
from npde_opt.cases.sections import CaseFile
from npde_opt.cases.side_values import on_side
from npde_opt.cases.sought_tables import UnknownSection
from npde_opt.cases.terms import Terms, check_coefficients, source
from npde_opt.cases.unknowns import space_of, start, value
from npde_opt.errors import InputError, SolverError, collective
from npde_opt.forward import Equation, Experiment, Steady, Storage, scheme
from npde_opt.forward.coefficients import known_values
from npde_opt.forward.positivity import wrong_cells
from npde_opt.functions import Written
from npde_opt.grids import Grid
from npde_opt.observations import Sampling
from npde_opt.parameters import ParameterSpace
from npde_opt.terms.interface import LinearTerm
from npde_opt.terms.tensor_diffusion import DEFINITE, TensorDiffusion

if TYPE_CHECKING:
    from npde_opt.forward import Evolution

EMPTY = ExperimentSection()


class OnGrid:
    """Everything that a case says, on one grid.

    Args:
        wells: by experiment, with their keys.
        count: how many experiments there are.
        truth: unknown functions are the true ones (see learned.py).
    """

    def __init__(
        self,
        table: CaseFile,
        domain: Domain,
        grid: Grid,
        observations: Sequence[Observed],
        electrodes: Electrodes | None,
        wells: Sequence[Sequence[tuple[str, Well]]],
        count: int,
        truth: bool = False,
    ):
        self.truth = truth
        self.table, self.domain, self.grid = table, domain, grid
        self.observations, self.electrodes = observations, electrodes
        self.wells, self.count = wells, count
        self.species = tuple(table.equation.species)

    # ---- unknowns --------------------------------------------------------------------------------

    @cached_property
    def space(self) -> ParameterSpace:
        """The parameters. Collective when first asked for."""
        return space_of(self.table.unknown, self.domain, self.grid)

    def unknown(self, name: str) -> UnknownSection:
        return next(u for u in self.table.unknown if u.name == name)

    def value(self, name: str, key: str = "initial") -> Plain:
        """`initial` or `truth` of an unknown: an owned array [i, j, k], or numbers. Collective."""
        u = self.unknown(name)
        return value(
            u, getattr(u, key), f"unknown.{name}.{key}", self.space, self.domain
        )

    def start(self, key: str = "initial") -> PETSc.Vec:
        """Parameters of `initial` or `truth`. Collective; the caller destroys the Vec."""
        return self._start({u.name: key for u in self.table.unknown})

    def known(self) -> PETSc.Vec:
        """Parameters of `truth`, of `initial` where a case gives none. Collective; the caller
        destroys the Vec."""
        given = {u.name: u.truth for u in self.table.unknown}
        return self._start(
            {n: "initial" if v is None else "truth" for n, v in given.items()}
        )

    def _start(self, keys: Mapping[str, str]) -> PETSc.Vec:
        """Parameters of these keys, by unknown, with which the equation can be."""
        m = start(self.table.unknown, keys, self.space, self.domain, self.positive)
        k = {
            **known_values(self.grid, self.terms.known),
            **self.space.at(m).coefficients(),
        }
        with collective(self.grid.comm):
            self._check_storage(k)
            self._check_terms(k)
        return m

    # ---- equation --------------------------------------------------------------------------------

    @cached_property
    def terms(self) -> Terms:
        return Terms(self.table, self.domain, self.grid, self.truth)

    @cached_property
    def equation(self) -> Equation:
        """With its coefficients checked: each has a value, and each unknown is used."""
        made = self.terms
        equation = Equation(
            self.grid,
            made.terms,
            self.species,
            made.gamma,
            made.storage,
            "equation.storage",
        )
        written = {n for n, f in made.functions.items() if isinstance(f, Written)}
        check_coefficients(self.table, equation.coefficients | written, self.grid.dim)
        self._check_tensors()
        self._check_positive()
        return equation

    @property
    def positive(self) -> set[str]:
        """Names of diffusivities, which have to be positive where the state is real."""
        if self.terms.gamma.imag != 0:
            return set()
        return {name for term in self.terms.terms for name in term.positive}

    def _check_tensors(self) -> None:
        """Raises InputError for known tensors that are not positive definite."""
        known = self.terms.known
        for i, term in enumerate(self.terms.terms):
            if isinstance(term, TensorDiffusion) and set(term.coefficients) <= set(
                known
            ):
                wrong = term.indefinite(term.values(known))
                if wrong:
                    key = f"equation.terms[{i}].diffusion-tensor"
                    said = f"not positive definite in {wrong} cells"
                    raise InputError(key, said, DEFINITE)

    def _check_storage(self, k: Coefficients) -> None:
        """Raises InputError where S is not positive. Collective."""
        capacity = self.equation.capacity
        if capacity is None:
            return
        wrong, least = wrong_cells(self.grid, capacity.at(k).S, zero=False)
        if wrong:
            said = f"{least:.4g} at the smallest, in {wrong} cells not positive"
            raise InputError(
                "equation.storage", said, "positive values in all active cells"
            )

    def _check_terms(self, k: Coefficients) -> None:
        """Raises InputError for terms that read what is not there, and linear ones that cannot be.
        Collective."""
        for term in self.terms.terms:
            for text in term.texts:
                text.check_names(k)
        shape = self.grid.local_shape
        cells = {
            n: v if v.ndim > self.grid.dim else np.broadcast_to(v, shape)
            for n, v in (
                (n, np.asarray(k[n], float)) for n in self.equation.cell_coefficients
            )
        }
        for i, term in enumerate(self.terms.terms):
            if isinstance(term, LinearTerm):
                try:
                    term.at(cells).check("state_")
                except SolverError as error:
                    key = f"equation.terms[{i}]"
                    raise InputError(
                        key, error.reason, "a term that can be solved"
                    ) from error

    def _check_positive(self) -> None:
        """Raises InputError for diffusivities of steady states that are not positive."""
        if self.table.time is not None:
            return
        for name in sorted(self.positive & set(self.terms.known)):
            values = np.broadcast_to(self.terms.known[name], self.grid.local_shape)
            low = values[self.grid.active].min(initial=np.inf)
            if not low > 0:
                said = "positive values in all active cells"
                raise InputError(f"equation.known.{name}", low, said)

    # ---- experiments -----------------------------------------------------------------------------

    def experiments(self, own: Sequence[int]) -> list[Experiment]:
        """Those numbered in `own`. Collective."""
        patches = (
            self.electrodes.patches(self.grid) if self.electrodes is not None else []
        )
        return [self._experiment(k, patches) for k in own]

    def _experiment(self, k: int, patches: list[Patch]) -> Experiment:
        given = self.table.experiment
        x, where = (given[k] if k < len(given) else EMPTY), f"experiment[{k}]"
        key = f"{where}.boundary"
        self._check_boundary(key, x.boundary)
        drives = [
            source(self.grid, self.species, f"{where}.sources[{i}]", y, "shape")
            for i, y in enumerate(x.sources)
        ]
        load = self._wells(k)
        if self.electrodes is not None:
            first = load.setdefault(self.species[0], self._zeros())
            self.electrodes.add(patches, k, self.grid, first)
        initial = {
            s: self._initial(f"{where}.initial.{s}", v) for s, v in x.initial.items()
        }
        return Experiment(
            initial=initial,
            sources=drives,
            load=load or None,
            boundary=self._boundary(key, x.boundary),
            where=f"{where}.",
        )

    def _zeros(self) -> np.ndarray:
        return np.zeros(self.grid.local_shape, order="F")

    def _wells(self, k: int) -> dict[str, np.ndarray]:
        """Sources of wells integrated over cells, by species."""
        nearest = not self.domain.is_own(self.grid)
        load: dict[str, np.ndarray] = {}
        for field, well in self.wells[k]:
            name = well.species or self.species[0]
            found = patch(self.grid, well.at, well.radius, field, nearest)
            found.add(self.grid, well.rate, load.setdefault(name, self._zeros()))
        return load

    def _boundary(self, key: str, given: Mapping[str, Plain]) -> Record:
        """{side: value}, or {species: {side: value}}, on this grid."""
        found: Record = {}
        edges, homes = list(self.grid.edges), self.domain.sources.homes
        for name, one in given.items():
            if isinstance(one, dict):
                found[name] = self._boundary(f"{key}.{name}", one)
            else:
                found[name] = on_side(f"{key}.{name}", name, one, edges, homes)
        return found

    def _check_boundary(self, field: str, values: Mapping[str, Plain]) -> None:
        """Raises InputError for sides that have no values."""
        sides = self.domain.boundaries
        open_sides = [side for side, b in sides.items() if b.kind != "periodic"]
        named = [
            v for s, v in values.items() if s in self.species and isinstance(v, dict)
        ]
        plain = [s for s in values if s not in self.species]
        for side in [*plain, *(side for table in named for side in table)]:
            if side not in open_sides:
                said = ", ".join(open_sides) or "nothing: all sides are periodic"
                raise InputError(field, side, said)

    def _initial(self, field: str, spec: Plain) -> Plain:
        """Of a species: a text, or an owned array."""
        if isinstance(spec, str):
            return spec
        return evaluate_part(field, spec, Part.of(self.grid), self.domain.sources)

    # ---- forward map -----------------------------------------------------------------------------

    def samplings(self, seen: Sequence[Observed] | None = None) -> list[Sampling]:
        """What is observed of every experiment, or what else is seen. Collective; they belong to
        the caller."""
        return [o.sampling(self.grid) for o in seen or self.observations]

    def forward(
        self,
        own: Sequence[int],
        times: np.ndarray | None = None,
        storage: Storage | None = None,
        seen: Sequence[Observed] | None = None,
    ) -> Steady | Evolution:
        """The forward map of the experiments numbered in `own`. Collective.

        Args:
            times: ends of the steps, with [time].
            storage: of trajectories.
            seen: in place of the case's observations.
        """
        with collective(self.grid.comm):
            equation, space = self.equation, self.space
            experiments = self.experiments(own)
            samplings = self.samplings(seen)
        known, recipe = self.terms.known, self.table.equation.recipe
        time = self.table.time
        if time is None:
            mean = self.table.equation.mean
            return Steady(
                space,
                equation,
                known,
                experiments,
                samplings,
                recipe=recipe,
                mean=mean,
                once=storage is not None and storage.forward_only,
            )
        assert times is not None
        from npde_opt.forward import Evolution  # steady states do without

        return Evolution(
            space,
            equation,
            known,
            experiments,
            samplings,
            scheme(time.scheme, field="time.scheme"),
            times,
            storage or Storage(),
            bound=time.bound,
            recipe=recipe,
            precision=time.precision,
        )
