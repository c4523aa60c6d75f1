"""Cases: TOML files that say which equation, grid, data and unknowns a driver works on."""

from typing import TYPE_CHECKING

from npde_opt.cases.case import Case
from npde_opt.cases.load import load_case
from npde_opt.lazily import names_of

if TYPE_CHECKING:
    from npde_opt.cases.check import check_main
else:
    __getattr__ = names_of(__name__, {"check": ("check_main",)})

__all__ = ["Case", "check_main", "load_case"]
