"""A case whose unknowns start from the coefficients of an equation that was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.pseudoinverse.equation_error import Observed, Term

SNAPSHOTS = 20
"""Times that the case observes, about."""
EVEN = 1e-2
"""Difference of both ends, over the largest state, up to which sides are taken for periodic."""


def case_text(
    name: str, seen: Observed, terms: Sequence[Term], coefficients: np.ndarray
) -> str | None:
    """The case, with its data in NAME.npz beside it; None where a term is none of a case's."""
    is_complex = np.iscomplexobj(seen.u)
    parts = _complex_parts if is_complex else _real_parts
    found = parts(terms, coefficients)
    if found is None:
        return None
    equation, unknowns = found
    dx, dt = float(seen.x[1] - seen.x[0]), float(seen.t[1] - seen.t[0])
    steps = len(seen.t) - 1
    species = ["re", "im"] if is_complex else ["u"]
    # Nonlinear terms are explicit.
    linear = is_complex and not any("kinetics" in term for term in equation)
    every = max(steps // SNAPSHOTS, 1)
    last = steps // every * every
    at = [_number(step * dt) for step in range(0, last + 1, every)]
    largest = float(abs(seen.u).max())
    ends = (
        "periodic"
        if abs(seen.u[:, 0] - seen.u[:, -1]).max() <= EVEN * largest
        else "neumann"
    )
    initial = ", ".join(
        f"{s} = {{ {_data(name, s)}, rows = [0, 0, 1] }}" for s in species
    )
    lines = [
        f"# {name}: coefficients start from the equation that was found of its data.",
        "",
        f'[case]\ntitle = "{name}"\nlength_unit = "1"',
        "",
        f"[grid]\nshape = [{len(seen.x)}]\nextent = [{_number(len(seen.x) * dx)}]",
        f"origin = [{_number(float(seen.x[0]) - dx / 2)}]",
        "",
        f'[boundaries]\n"x-" = "{ends}"\n"x+" = "{ends}"',
        "",
        "[equation]",
        *(['species = ["re", "im"]', 'gamma = "i"'] if is_complex else []),
        f"terms = [{', '.join(equation)}]",
        "",
        f'[time]\nscheme = "{"crank-nicolson" if linear else "ars222"}"',
        f"times = {{ end = {_number(steps * dt)}, steps = {steps} }}",
        "",
        *unknowns,
        f"[[experiment]]\ninitial = {{ {initial} }}",
        "",
    ]
    for one in species:
        lines += [
            f'[[observation]]\nquantity = "{one}"\ntimes = [{", ".join(at)}]',
            f"data = [{{ {_data(name, one)}, rows = [0, {last}, {every}] }}]",
            f"sigma = {_number(0.01 * largest)}",
            "",
        ]
    return "\n".join(lines)


def _real_parts(
    terms: Sequence[Term], coefficients: np.ndarray
) -> tuple[list[str], list[str]] | None:
    """Terms of the equation, and unknowns."""
    equation, powers, unknowns = [], [], []
    for term, value in zip(terms, coefficients, strict=True):
        if term.derivative == 2 and term.power == 1 and value > 0:
            equation.append('{ diffusion = "D" }')
            unknowns += _unknown("D", value)
        elif term.derivative == 0:
            powers.append(f"c{term.power}*{_raised(term.power)}")
            unknowns += _unknown(f"c{term.power}", value)
        else:
            return None
    if powers:
        equation.append(f'{{ kinetics = {{ u = "{" + ".join(powers)}" }} }}')
    return equation, unknowns


def _complex_parts(
    terms: Sequence[Term], coefficients: np.ndarray
) -> tuple[list[str], list[str]] | None:
    """Linear terms are those of i u_t, kinetics those of (re_t, im_t)."""
    equation, powers, unknowns = [], [], []
    for term, value in zip(terms, coefficients, strict=True):
        if not term.imaginary:
            return None
        if term.derivative == 2 and value > 0:
            equation.append('{ diffusion = "D" }')
            unknowns += _unknown("D", value)
        elif term.derivative == 0 and term.power == 1:
            if any("reaction" in other for other in equation):
                return None
            equation.append('{ reaction = "V" }')
            unknowns += _unknown(
                "V", f'{{ expression = "{-value:.12g}*x**{term.place}" }}'
            )
        elif term.derivative == 0:
            size = _size(term.power - 1)
            powers.append(f"c{term.power}*{size}")
            unknowns += _unknown(f"c{term.power}", value)
        else:
            return None
    if powers:
        turned = "im", "re"
        sums = [" + ".join(f"{text}*{part}" for text in powers) for part in turned]
        equation.append(f'{{ kinetics = {{ re = "-({sums[0]})", im = "{sums[1]}" }} }}')
    return equation, unknowns


def _raised(power: int) -> str:
    return "u" if power == 1 else f"u**{power}"


def _size(power: int) -> str:
    """|u|^power, of an even power."""
    return "(re**2 + im**2)" + (f"**{power // 2}" if power > 2 else "")


def _unknown(name: str, value: float | str) -> list[str]:
    kind = 'transform = "identity"' if name != "D" else 'transform = "log"'
    lines = [f'[[unknown]]\nname = "{name}"']
    if isinstance(value, str):
        return [*lines, f"{kind}\ninitial = {value}", ""]
    return [*lines, f'kind = "scalar"\n{kind}\ninitial = {_number(value)}', ""]


def _data(name: str, key: str) -> str:
    return f'file = "{name}.npz", key = "{key}"'


def _number(value: float) -> str:
    """As TOML has floats."""
    text = f"{float(value):.12g}"
    return text if any(sign in text for sign in ".en") else f"{text}.0"
