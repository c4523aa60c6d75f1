"""What the recipes for A x = b are, as PETSc's options below a prefix."""

from __future__ import annotations

from npde_opt.linear.direct import ZERO_PIVOT

FACTORED = (
    "",
    "redundant_",
    "sub_",
    *(
        f"mg_{level}_{inner}"
        for level in ("coarse", "levels", "levels_up")
        for inner in ("", "redundant_", "sub_")
    ),
)
PIVOTS: dict[str, str | None] = {
    f"{place}pc_factor_zeropivot": ZERO_PIVOT for place in FACTORED
}
"""For all factorizations of any recipe, and of those that a user chooses by options."""
COARSEST: dict[str, str | None] = {
    "mg_coarse_ksp_type": "preonly",
    "mg_coarse_pc_type": "redundant",
}
SMOOTHERS: dict[str, str | None] = {
    "pc_mg_galerkin": "none",
    "pc_mg_distinct_smoothup": None,
    "mg_levels_ksp_type": "preonly",
    "mg_levels_pc_type": "sor",
    "mg_levels_pc_sor_local_forward": None,
    "mg_levels_up_ksp_type": "richardson",
    "mg_levels_up_ksp_max_it": "1",
    "mg_levels_up_pc_type": "sor",
    "mg_levels_up_pc_sor_local_backward": None,
    **COARSEST,
}

# PETSc has no transpose of SOR for non-symmetric matrices; the same hierarchy solves with A and A^T
# under Jacobi.
TRANSPOSABLE: dict[str, str | None] = {
    f"mg_levels_{up}{key}": value
    for up in ("", "up_")
    for key, value in (
        ("ksp_type", "richardson"),
        ("ksp_max_it", "2"),
        ("ksp_richardson_scale", "0.7"),
        ("pc_type", "jacobi"),
    )
}

RECIPES: dict[str, dict[str, str | None]] = {
    "geometric": {"pc_type": "mg", **SMOOTHERS},
    "gamg": {
        "pc_type": "gamg",
        "pc_gamg_threshold": "0.0",
        "pc_gamg_agg_nsmooths": "1",
        "pc_gamg_reuse_interpolation": "1",
        "mg_levels_ksp_type": "richardson",
        "mg_levels_pc_type": "sor",
        "mg_levels_ksp_max_it": "1",
        "mg_coarse_sub_pc_factor_shift_type": "none",
    },
    "planes": {},
    "hypre": {"pc_type": "hypre", "pc_hypre_type": "boomeramg"},
    "pyamg": {},
    "direct": {},
    "cholmod": {},
    "mumps": {},
}
