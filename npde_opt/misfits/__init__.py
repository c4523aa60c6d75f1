"""phi(d): how far predicted data d, a block of outputs x columns, are from what is known of
them."""

from npde_opt.misfits.cross_entropy import SoftmaxCrossEntropy
from npde_opt.misfits.dependent import CorrelatedErrors
from npde_opt.misfits.independent import (
    Diagonal,
    Huber,
    Independent,
    LeastSquares,
    ProportionalErrors,
    StudentT,
    default_floor,
)
from npde_opt.misfits.interface import Misfit, Scaled
from npde_opt.misfits.psnr import PSNR

MISFITS: dict[str, type[Independent]] = {
    "least-squares": LeastSquares,
    "huber": Huber,
    "student-t": StudentT,
}

__all__ = [
    "MISFITS",
    "PSNR",
    "CorrelatedErrors",
    "Diagonal",
    "Huber",
    "Independent",
    "LeastSquares",
    "Misfit",
    "ProportionalErrors",
    "Scaled",
    "SoftmaxCrossEntropy",
    "StudentT",
    "default_floor",
]
