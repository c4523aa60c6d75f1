"""Maps from parameters to predicted data, and their Jacobians."""

from typing import TYPE_CHECKING

from npde_opt.forward.equation import Equation
from npde_opt.forward.experiment import Experiment
from npde_opt.forward.schemes import SCHEMES, scheme
from npde_opt.forward.steady import Steady
from npde_opt.forward.steady_point import Linearization
from npde_opt.forward.storage import Storage
from npde_opt.lazily import names_of

if TYPE_CHECKING:
    from npde_opt.forward.evolution import Evolution
else:
    __getattr__ = names_of(__name__, {"evolution": ("Evolution",)})

__all__ = [
    "SCHEMES",
    "Equation",
    "Evolution",
    "Experiment",
    "Linearization",
    "Steady",
    "Storage",
    "scheme",
]
