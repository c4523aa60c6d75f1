"""PDE-constrained optimization in which neural networks are sparse finite-difference operators.

The steady equation -div(D grad u) + c u = f is discretised by block-centred finite differences into PETSc
matrices; its parameters are identified from data by TAO with exact adjoint gradients and multigrid solves.
"""

__version__ = "0.1.0"
