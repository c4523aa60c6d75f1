"""Cases: TOML files that say which equation, grid, data and unknowns a driver works on."""

from npde_opt.cases.case import Case
from npde_opt.cases.check import check_main
from npde_opt.cases.load import load_case

__all__ = ["Case", "check_main", "load_case"]
