"""Recipes that factorize: `direct` by PETSc itself, `cholmod` and `mumps` by packages that a PETSc
may be built with.

Symmetric matrices become L D L^T after nested dissection, which takes half the memory of LU and
60 % of its time, from the same pivots; others become LU. On several ranks every one has the whole
matrix and its factors, but of `mumps`, which spreads them.
"""

from __future__ import annotations

from petsc4py import PETSc

from npde_opt.errors import InputError

ZERO_PIVOT = "1e-300"
"""PETSc takes a pivot below 2.2e-14 for zero, whatever the matrix's unit: then it gives up, or adds
that much to it. Pivots of the matrices here are as large as their rows unless these are singular,
so that only a pivot of zero is one."""
PACKAGES = {"cholmod": "suitesparse", "mumps": "mumps", "hypre": "hypre"}
"""What PETSc has to be built with, by recipe (./configure --download-NAME)."""
DIRECT = ("direct", "cholmod", "mumps")


def has_package(name: str) -> bool:
    """True where this PETSc was built with the package."""
    return bool(PETSc.Sys.hasExternalPackage(name))


def is_there(recipe: str) -> bool:
    """Whether this PETSc was built with what a recipe needs."""
    return recipe not in PACKAGES or has_package(PACKAGES[recipe])


def check_package(prefix: str, recipe: str) -> None:
    """Raises InputError for a recipe that this build lacks."""
    if not is_there(recipe):
        package = PACKAGES[recipe]
        allowed = (
            f"a PETSc built with {package} (--download-{package}), which this one is not: it "
            "offers geometric, gamg, pyamg, direct"
        )
        raise InputError(f"-{prefix}recipe", recipe, allowed)


def direct_options(
    recipe: str, prefix: str, ranks: int, symmetric: bool
) -> dict[str, str | None]:
    """Options of a factorization. Raises InputError where the package does not factorize such a
    matrix."""
    if recipe == "cholmod" and not symmetric:
        allowed = "a symmetric matrix; direct and mumps factorize others"
        raise InputError(f"-{prefix}recipe", recipe, allowed)
    whole = ranks > 1 and recipe != "mumps"
    inner = "redundant_" if whole else ""
    found: dict[str, str | None] = {
        f"{inner}pc_type": "cholesky" if symmetric else "lu",
        f"{inner}pc_factor_zeropivot": ZERO_PIVOT,
    }
    if whole:
        found["pc_type"] = "redundant"
    if recipe != "direct":
        found[f"{inner}pc_factor_mat_solver_type"] = recipe
    return found
