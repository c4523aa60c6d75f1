"""One table of recipes for A x = b, all reachable from the command line: -<prefix>recipe NAME.

Every entry is a set of PETSc options below the caller's prefix (table.py); an option that the user
gives wins. Where the recipe is `direct`, a small box of symmetric values is factored by loops of
our own (dissection/), unless options ask for something of PETSc's, or values are not positive
definite.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

from petsc4py import PETSc

from npde_opt.errors import InputError, SolverError
from npde_opt.grids import Grid
from npde_opt.linear.accuracy import Tolerance, check_pipelined, is_tight
from npde_opt.linear.choice import (
    ADAPTED,
    ADAPTED_EXPECTED,
    OWN_CELLS,
    Choice,
    Reuse,
    choice,
    fills_planes,
    fits_planes,
    pays_loading,
)
from npde_opt.linear.cycle import Cycle
from npde_opt.linear.direct import (
    DIRECT,
    check_package,
    direct_options,
)
from npde_opt.linear.dissection.factors import BoxFactors, box_factors
from npde_opt.linear.dissection.shared import (
    SharedFactors,
    own_factors_take,
    shared_factors,
)
from npde_opt.linear.geometric import Hierarchy
from npde_opt.linear.planes.boxes import SHORTEST
from npde_opt.linear.planes.cycle import PlaneCycle
from npde_opt.linear.planes.gradients import (
    NATURAL,
    NORMS,
    PRECONDITIONED,
    UNPRECONDITIONED,
    PlaneCG,
)
from npde_opt.linear.residual import ResidualCheck
from npde_opt.linear.table import COARSEST, PIVOTS, RECIPES, TRANSPOSABLE
from npde_opt.machine_code import is_loaded
from npde_opt.operators.halves import Planes
from npde_opt.operators.stencils import StencilMatrix
from npde_opt.petsc_options import from_options

PYAMG = "npde_opt.linear.pyamg_pc.PyAMG"
FALLS_BACK = (
    PETSc.KSP.ConvergedReason.DIVERGED_MAX_IT,
    PETSc.KSP.ConvergedReason.DIVERGED_INDEFINITE_PC,
    PETSc.KSP.ConvergedReason.DIVERGED_BREAKDOWN,
)
"""Failures of a cycle, after which factors may solve."""
FACTORS_CHECKED = 8
"""Of so many solves with factors one is checked at least: the first with new values always is."""
STOPS = ("ksp_rtol", "ksp_atol", "ksp_max_it", "ksp_norm_type")
"""Options of a KSP that the conjugate gradients on planes know, too."""


def chosen_recipe(prefix: str, recipe: str = "auto") -> str:
    """The recipe, or that of the option -<prefix>recipe. Raises InputError for an unknown one or
    one that this build lacks."""
    recipe = PETSc.Options().getString(prefix + "recipe", recipe)
    if recipe not in (*RECIPES, "auto"):
        raise InputError(f"-{prefix}recipe", recipe, ", ".join((*RECIPES, "auto")))
    check_package(prefix, recipe)
    return recipe


@contextlib.contextmanager
def options_below(prefix: str, own: Mapping[str, str | None]) -> Iterator[None]:
    """Options in PETSc's database inside the block, where the user gives no others."""
    database = PETSc.Options()
    added = [key for key in own if not database.hasName(prefix + key)]
    for key in added:
        database.setValue(prefix + key, own[key])
    try:
        yield
    finally:
        for key in added:
            database.delValue(prefix + key)


class LinearSolver:
    """Solves with one matrix whose values change and whose pattern does not.

    Args:
        matrix: stencil matrix on the grid's scalar unknowns.
        prefix: options prefix, e.g. 'state_'.
        recipe: a name in RECIPES or 'auto' (geometric where a 2-D or 3-D grid coarsens, else
            direct; planes in place of geometric for symmetric matrices from CELLS active cells
            on where FILL of all are active, on several ranks where boxes.fits, under a mask from
            SHARE active cells a rank on; gamg in place of
            geometric for stencils of more than 1 + 2 dim points); the option -<prefix>recipe wins.
        reuse: of values; where it is given, 'auto' is direct where that is cheaper (choice.py).
        symmetric: CG for symmetric positive definite matrices, else GMRES.
        norm: of the residual that `rtol` is for, as in -<prefix>ksp_norm_type ("natural" only where
            the method is CG); else the method's own.
        checked: of so many solves one is checked for its true residual (residual.py);
            `true_residual` is the largest.
        brief: for one matrix and so many solves with it, for which loops of our own are not loaded
            where that takes longer than they save; 0: who knows for how many.

    Raises:
        InputError: for an unknown recipe or one that this PETSc build lacks.
    """

    def __init__(
        self,
        matrix: StencilMatrix,
        grid: Grid,
        prefix: str,
        recipe: str = "auto",
        symmetric: bool = True,
        rtol: float = 1e-8,
        norm: str | None = None,
        checked: int = 1,
        reuse: Reuse | None = None,
        brief: int = 0,
    ):
        self.matrix, self.prefix, self.symmetric, self.norm = (
            matrix,
            prefix,
            symmetric,
            norm,
        )
        self.grid, self._rtol, self._checked = grid, rtol, checked
        self.solves = self.iterations = 0
        self.choice: Choice | None = None
        # Ranks would have to agree on what is loaded.
        ready = not brief or grid.comm.size > 1 or is_loaded()
        self._own_loops = ready or pays_loading(grid, brief)
        self._counted = [0, 0]  # solves with the present values, and their iterations
        recipe = chosen_recipe(prefix, recipe)
        if recipe == "auto":
            recipe = self._cheapest(reuse)
        self._make(recipe)

    def _cheapest(self, reuse: Reuse | None) -> str:
        """What 'auto' is."""
        grid = self.grid
        if grid.dim == 1:
            return "direct"
        if not self.matrix.narrow:
            return "gamg"
        free = not self._asked("pc_", "mg_")
        fast = free and fits_planes(self.matrix, grid, self.symmetric)
        fast = fast and fills_planes(grid)
        cycle = "planes" if fast else "geometric"
        if reuse is None or not free or self._asked("ksp_") or not self.matrix.shared:
            return cycle
        own = self.symmetric and self._own_loops and grid.active_size <= OWN_CELLS
        own = own and own_factors_take(grid, self.matrix)
        self.choice = choice(grid, cycle, self.symmetric, reuse, own)
        return self.choice.recipe

    def _make(self, recipe: str) -> None:
        """What the recipe needs; it is set up by the next update."""
        self.hierarchy: Hierarchy | None = None
        self.planes: PlaneCycle | None = None
        if recipe == "planes":
            self._check_planes(self.grid)
            self.planes = PlaneCycle(self.grid, self.matrix.offsets)
            recipe = "planes" if self.planes.halved else "direct"
        if recipe == "geometric" and not self.matrix.narrow:
            recipe = "gamg" if self.grid.dim > 1 else "direct"
        if recipe == "geometric":
            self.hierarchy = Hierarchy(self.grid)
            recipe = "geometric" if self.hierarchy.matrices else "direct"
        self.recipe = recipe
        self.ksp = PETSc.KSP().create(self.grid.comm)
        self.ksp.setOptionsPrefix(self.prefix)
        self.factors = self._box_factors() if recipe == "direct" else None
        self._factored = False  # whether they have the present values
        light = self.recipe == "planes" and not self._asked("pc_", "mg_")
        light = light or self.factors is not None
        self.ksp.setOperators(self.matrix.operator if light else self.matrix.mat)
        self.ksp.setTolerances(rtol=self._rtol, atol=1e-300, max_it=500)
        self._ranks, self._configured = self.grid.comm.size, False
        every = max(self._checked, FACTORS_CHECKED if self.direct else 1)
        self.tolerance, self._residual = (
            Tolerance(self.ksp),
            ResidualCheck(self.ksp, self.prefix, every),
        )
        self._cycle: Cycle | None = None
        self._gradients: PlaneCG | None = None

    def _box_factors(self) -> BoxFactors | SharedFactors | None:
        """Factors of our own, where they take the matrix and nothing of PETSc's is asked for."""
        loops = self.symmetric and self._own_loops
        if not loops or self._asked("pc_", "ksp_", "mg_"):
            return None
        given = self.grid, self.matrix
        found = box_factors(*given) or shared_factors(*given)
        if found is not None:
            self.ksp.setType(PETSc.KSP.Type.PREONLY)
        return found

    @property
    def direct(self) -> bool:
        """Whether it factorizes."""
        return self.recipe in DIRECT

    @property
    def asked(self) -> str:
        """What a solve stops at, and why the recipe was chosen where it was by costs."""
        chosen = self.choice
        if chosen is None:
            return self.tolerance.text
        mean = self._mean_iterations() if self.recipe == chosen.cycle else None
        return f"{self.tolerance.text} ({self.recipe}: {chosen.text(mean)})"

    def _asked(self, *beginnings: str) -> bool:
        """Whether the user gives options below the prefix that begin so."""
        whole = tuple(self.prefix + beginning for beginning in beginnings)
        return any(key.startswith(whole) for key in PETSc.Options().getAll())

    def _check_planes(self, grid: Grid) -> None:
        """Raises InputError where the matrix is none for loops on planes."""
        if not fits_planes(self.matrix, grid, self.symmetric):
            allowed = (
                "geometric; planes are for symmetric matrices in 2-D and 3-D, of which each rank "
                f"has {SHORTEST} cells along axes that are cut; periodic ones are even there"
            )
            raise InputError(f"-{self.prefix}recipe", "planes", allowed)

    def _own_gradients(self) -> PlaneCG | None:
        """Conjugate gradients on planes, where no other Krylov method or what only PETSc's do is
        asked for."""
        if self.planes is None or self.recipe != "planes":
            return None
        known = {self.prefix + stop for stop in STOPS}
        given = PETSc.Options().getString(self.prefix + "ksp_norm_type", "")
        norm = given or self.norm or PRECONDITIONED
        others = [
            k for k in PETSc.Options().getAll() if k.startswith(self.prefix + "ksp_")
        ]
        if not known.issuperset(others) or norm not in NORMS or given == NATURAL:
            return None
        return PlaneCG(self.planes, norm)

    def _own_cycle(self) -> Cycle | None:
        """Where PETSc's own multigrid is not asked for by its options or needed (non-symmetric
        matrices, other matrix types)."""
        if self.recipe != "geometric" or not self.symmetric:
            return None
        assert self.hierarchy is not None
        if self._asked("pc_", "mg_levels") or not all(
            m.shared for m in (self.matrix, *self.hierarchy.matrices)
        ):
            return None
        return Cycle(self.matrix, self.hierarchy, self.prefix + "mg_coarse_")

    def _options(self, ranks: int) -> dict[str, str | None]:
        if self._gradients is not None:
            # PETSc's interface to methods in Python has no natural norm; the method knows its own.
            kept = (
                UNPRECONDITIONED
                if self._gradients.norm == UNPRECONDITIONED
                else PRECONDITIONED
            )
            return {"ksp_type": "python", "ksp_norm_type": kept}
        krylov: dict[str, str | None] = {
            "ksp_type": "cg" if self.symmetric else "gmres"
        }
        if self.norm and (
            self.norm != "natural"
            or PETSc.Options().getString(self.prefix + "ksp_type", "cg") == "cg"
        ):
            krylov["ksp_norm_type"] = self.norm
        if self.direct:
            how = direct_options(self.recipe, self.prefix, ranks, self.symmetric)
            return {"ksp_type": "preonly", **how}
        if self.recipe == "pyamg":
            own: dict[str, str | None] = (
                {"pc_type": "python", "pc_python_type": PYAMG}
                if ranks == 1
                else {
                    "pc_type": "asm",
                    "pc_asm_overlap": "1",
                    "pc_asm_type": "basic",
                    "sub_ksp_type": "preonly",
                    "sub_pc_type": "python",
                    "sub_pc_python_type": PYAMG,
                }
            )
            return {**krylov, **own}
        if self._cycle is not None:
            return {**krylov, **COARSEST}
        if not self.symmetric:
            return {**krylov, **RECIPES[self.recipe], **TRANSPOSABLE}
        return {**krylov, **RECIPES[self.recipe]}

    def _configure(self) -> None:
        """Sets up with the recipe's options in the database, and takes them out again: they are
        this solver's only."""
        self._cycle, self._gradients = self._own_cycle(), self._own_gradients()
        with (
            options_below(self.prefix, {**PIVOTS, **self._options(self._ranks)}),
            from_options(self.prefix),
        ):
            if self._gradients is not None:
                self.ksp.setType(PETSc.KSP.Type.PYTHON)
                self.ksp.setPythonContext(self._gradients)
            context = self._cycle or self.planes
            if context is not None and not self.direct:
                self.ksp.getPC().setType(PETSc.PC.Type.PYTHON)
                self.ksp.getPC().setPythonContext(context)
            elif self.recipe == "geometric":
                self._set_levels()
            self.ksp.setFromOptions()
            if self.planes is not None and context is self.planes and not self.direct:
                check_pipelined(self.prefix, self.ksp.getType())
            self.ksp.setUp()
        self._configured = True

    def _set_levels(self) -> None:
        assert self.hierarchy is not None
        restrictions = self.hierarchy.coarsening.restrictions
        pc, top = self.ksp.getPC(), len(restrictions)
        pc.setType(PETSc.PC.Type.MG)
        pc.setMGLevels(top + 1)
        for depth, (transfer, coarse) in enumerate(
            zip(restrictions, self.hierarchy.matrices, strict=True)
        ):
            pc.setMGRestriction(top - depth, transfer)
            below = top - depth - 1
            pc.getMGSmoother(below).setOperators(coarse.mat)
            if below:
                pc.getMGSmootherUp(below).setOperators(coarse.mat)

    def update(self) -> None:
        """Refreshes the preconditioner for the matrix's present values, and frees its entries."""
        self._choose()
        if self.recipe == "geometric":
            assert self.hierarchy is not None
            self.hierarchy.update(self.matrix)
        kept = self.recipe == "planes" or self.factors is not None
        planes = self.matrix.kept_planes() if kept else {}
        self.matrix.freeze()
        self._residual.restart()
        if self._takes(planes):
            return
        if self._configured:
            self.ksp.setUp()
        else:
            self._configure()
        if self._gradients is not None:
            self._gradients.update(planes)
        elif self.recipe == "planes" and self.planes is not None:
            self.planes.update(planes)
        chosen, dearer = self.choice, self._dearer()
        adapted = dearer > 1 and chosen is not None and self.recipe == chosen.cycle
        if adapted and chosen and chosen.is_passed(ADAPTED_EXPECTED * dearer):
            self._factor_now()

    @property
    def present_factors(self) -> BoxFactors | None:
        """Factors of our own that have the present values, on one rank."""
        own = self.factors if self._factored else None
        return own if isinstance(own, BoxFactors) else None

    def _takes(self, planes: Planes) -> bool:
        """Whether there are factors of our own, and they take the values."""
        if self.factors is None:
            return False
        self._factored = self.factors.update(planes)
        if not self._factored:
            self.ksp.setOperators(self.matrix.mat)
        return self._factored

    def _factor_now(self) -> None:
        """Goes over to a factorization of the present values. Collective."""
        self.destroy()
        self._make("direct")
        kept = self.factors is not None
        if not self._takes(self.matrix.kept_planes() if kept else {}):
            self._configure()

    def _choose(self) -> None:
        """Goes over to a factorization where the values before took too many iterations."""
        mean, self._counted = self._mean_iterations(), [0, 0]
        if mean is None or self.choice is None or self.recipe != self.choice.cycle:
            return
        if self.choice.is_passed(mean * self._dearer()):
            self.destroy()
            self._make("direct")

    def _dearer(self) -> float:
        """What an iteration takes beside one that the choice knows."""
        grid, planes = self.grid, self.planes
        if planes is None or planes.adapted is None:
            return 1.0
        return ADAPTED[grid.dim] * grid.comm.size * grid.size / grid.active_size

    def _falls_back(self) -> bool:
        """Goes over to a factorization where the cycle failed and factors are small enough."""
        chosen = self.choice
        if chosen is None or self.recipe != chosen.cycle:
            return False
        if self.ksp.getConvergedReason() not in FALLS_BACK:
            return False
        if not math.isfinite(chosen.limit):
            return False
        self._factor_now()
        return True

    def _mean_iterations(self) -> float | None:
        """Of the solves with the present values."""
        solves, iterations = self._counted
        return iterations / solves if solves else None

    def solve(self, b: PETSc.Vec, x: PETSc.Vec) -> None:
        """A x = b. Raises SolverError where it does not converge."""
        self.tolerance.use()
        self._solve(b, x)
        if self._falls_back():
            self._solve(b, x)
        self._check(b, x, False)

    def _solve(self, b: PETSc.Vec, x: PETSc.Vec, transposed: bool = False) -> None:
        if self.factors is not None and self._factored:
            self.factors.solve(b.getArray(readonly=True), x.getArray())
        elif transposed and not self.symmetric:
            self.ksp.solveTranspose(b, x)
        else:
            self.ksp.solve(b, x)

    def solve_transpose(self, b: PETSc.Vec, x: PETSc.Vec) -> None:
        """A^T x = b with the same hierarchy. Raises SolverError where it does not converge."""
        self.tolerance.use()
        self._solve(b, x, transposed=True)
        if self._falls_back():
            self._solve(b, x, transposed=True)
        self._check(b, x, not self.symmetric)

    @property
    def true_residual(self) -> float:
        """The largest |b - A x| / |b| of the solves that were checked: those to their own tolerance
        or a tighter one."""
        return self._residual.largest

    def _check(self, b: PETSc.Vec, x: PETSc.Vec, transposed: bool) -> None:
        self.solves += 1
        iterations = 1 if self._factored else int(self.ksp.getIterationNumber())
        self.iterations += iterations
        if not is_tight():
            self._counted[0] += 1
            self._counted[1] += iterations
        reason = self.ksp.getConvergedReason()
        if reason < 0 and not self._factored:
            name = next(
                (k for k, v in vars(PETSc.KSP.ConvergedReason).items() if v == reason),
                str(reason),
            )
            raise SolverError(
                self.prefix,
                f"{name} after {self.ksp.getIterationNumber()} iterations, residual "
                f"{self.ksp.getResidualNorm():.3g}",
                f"Raise -{self.prefix}ksp_max_it, loosen -{self.prefix}ksp_rtol, try another "
                f"-{self.prefix}recipe, or check the coefficients' contrast.",
            )
        if self.tolerance.loosened:
            # Far from a solution in one norm says nothing about the other.
            return
        known = None if self._gradients is None else self._gradients.true_residual
        self._residual.check(b, x, transposed, known)

    def destroy(self) -> None:
        self.ksp.destroy()
        self._residual.destroy()
        if self._cycle is not None:
            self._cycle.release()
        if self.hierarchy is not None:
            self.hierarchy.destroy()
