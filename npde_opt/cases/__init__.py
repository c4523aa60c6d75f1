"""Cases: TOML files that say which equation, grid, data and unknowns a driver works on."""

from npde_opt.cases.case import Case, load_case
from npde_opt.cases.check import check_main
from npde_opt.cases.evolution_case import EvolutionCase

__all__ = ["Case", "EvolutionCase", "check_main", "load_case"]
