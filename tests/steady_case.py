"""A small steady case: one field from 20 places."""

CASE = """
[grid]
shape = [8, 8]
[boundaries]
"x-" = "dirichlet"
"x+" = "dirichlet"
[equation]
terms = [{ diffusion = "D" }, { source = 1.0 }]
[[unknown]]
name = "D"
initial = 1.0
truth = 2.0
[[experiment]]
boundary = { "x+" = 1.0 }
[[observation]]
random = 20
[[regularization]]
"""
