"""Cholesky factors of stencils on small boxes, in compiled loops."""
