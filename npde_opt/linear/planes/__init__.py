"""Multigrid and conjugate gradients for symmetric stencils with values as planes, in loops that are
compiled and kept on disk."""
