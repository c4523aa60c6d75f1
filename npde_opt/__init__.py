"""PDE-constrained optimization in which neural networks are sparse finite-difference operators.

Equations -div(D grad u) + v.grad u + c u = f and gamma du/dt + A u = kinetics + sources are
discretised by block-centred finite differences into PETSc matrices; their parameters are identified
from data by TAO with exact adjoint gradients and multigrid solves.

    import npde_opt as nd

gives the names below. What they need is loaded when one is first used; PETSc is started then, with
the options of the command line, where the script has not started it.
"""

from __future__ import annotations

import importlib
import sys

# As typing's: its import takes longer than all else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

FACE = {
    "grids": ("Boundary", "Grid"),
    "parameters": (
        "Field",
        "Matrix",
        "ParameterSpace",
        "PerStep",
        "Regions",
        "Shared",
        "Unknown",
    ),
    "terms": (
        "Absorbing",
        "Advection",
        "Convolution",
        "Diffusion",
        "GradientDiffusion",
        "Kinetics",
        "NonlinearDiffusion",
        "Reaction",
        "Source",
        "TensorDiffusion",
        "TimedAdvection",
    ),
    "forward": ("Equation", "Evolution", "Experiment", "Steady", "Storage", "scheme"),
    "observations": (
        "at_points",
        "ball_mean",
        "box_mean",
        "difference",
        "from_functionals",
        "integral",
        "over_regions",
        "points_at",
        "side_mean",
        "snapshots",
        "together",
        "voxels",
    ),
    "misfits": (
        "CorrelatedErrors",
        "Huber",
        "LeastSquares",
        "PSNR",
        "ProportionalErrors",
        "SoftmaxCrossEntropy",
        "StudentT",
    ),
    "regularizers": (
        "BiLaplacian",
        "Gradient",
        "Parts",
        "Ridge",
        "SmallPrior",
        "TotalVariation",
    ),
    "networks": (
        "Adjoint",
        "Applied",
        "Dense",
        "Detectors",
        "Diffusing",
        "Equilibrium",
        "Evolved",
        "Identity",
        "Mask",
        "Mixing",
        "Nested",
        "Network",
        "Part",
        "PiecewiseLinear",
        "Place",
        "RadialBasis",
        "ReLU",
        "Smoothing",
        "Softplus",
        "SteadyState",
        "Stencil",
        "Step",
        "Tanh",
        "Transposed",
        "Weight",
        "masks",
        "pooling",
        "propagation",
        "unitary",
    ),
    "training.given": ("Given",),
    "pseudoinverse": ("Fold", "Gram", "StoredRows"),
    "objective": ("Objective",),
    "registry": ("register",),
    "ensemble": ("Ensemble",),
    "optimizers": ("Settings", "Validation", "minimize"),
    "restarts": ("identify",),
    "verify": ("dot_product_test", "taylor_test"),
    "cases": ("Case", "load_case"),
    "io.fields": ("read_field",),
    "io.npy": ("write_npy",),
    "io.vtk": ("write_vtk",),
    "io.zarr_writer": ("ZarrStore", "write_zarr"),
    "errors": ("InputError", "Interrupted", "NpdeError", "SolverError"),
}
"""Public names by the module that has them."""

_HOME = {name: module for module, names in FACE.items() for name in names}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """The public name, loaded at its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'npde_opt' has no attribute {name!r}")
    _start_petsc()
    found = getattr(importlib.import_module(f"npde_opt.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def _start_petsc() -> None:
    """With the options of the command line, where nobody has started it."""
    if "petsc4py.PETSc" not in sys.modules:
        import petsc4py

        # `python -c` and an interactive session have no name that is none of an option.
        name = sys.argv[0] if sys.argv and not sys.argv[0].startswith("-") else "python"
        petsc4py.init([name or "python", *sys.argv[1:]])
