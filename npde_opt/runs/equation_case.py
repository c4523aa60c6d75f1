"""A case whose unknowns start from the coefficients of an equation that was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npde_opt.grids import AXES
from npde_opt.pseudoinverse.equation_error import Observed, Term

FIRST = "first"
"""Key of the first state, where the grid has several axes."""
SNAPSHOTS = 20
"""Times that the case observes, about, where the data have no noise."""
NOISY = 3e-3
"""Of the states' root mean square, above what a grid misses: with more noise the first state is
sought, too, and all times are observed, so that the fit is the likeliest one."""
SMALL = 1e-3
"""Of the largest value: the least that a diffusivity starts from."""
EVEN = 1e-2
"""Difference of both ends, over the largest state, up to which sides are taken for periodic."""


Value = float | np.ndarray
"""Of a coefficient: a constant, or along x."""


def case_text(
    name: str,
    seen: Observed,
    terms: Sequence[Term],
    coefficients: Sequence[Value],
    regions: np.ndarray | None = None,
    noise: float = 0.0,
    axes: Sequence[np.ndarray] | None = None,
) -> str | None:
    """The case, with its data in NAME.npz beside it, fields and their regions among them; None
    where a term is none of a case's.

    Args:
        noise: standard deviation of the states' errors, of each part of complex ones.
        axes: coordinates of cells along each axis, where there are several: a row of u then has
            all cells, the first axis fastest, and the file has its first state as FIRST, too.
    """
    is_complex = np.iscomplexobj(seen.u)
    parts = _complex_parts if is_complex else _real_parts
    found = parts(terms, coefficients)
    if found is None:
        return None
    equation, starts = found
    unknowns = [
        line
        for one, value in starts.items()
        for line in _unknown(name, one, value, regions is not None)
    ]
    dt = float(seen.t[1] - seen.t[0])
    steps = len(seen.t) - 1
    species = ["re", "im"] if is_complex else ["u"]
    # Nonlinear terms are explicit.
    linear = is_complex and not any("kinetics" in term for term in equation)
    noisy = noise > NOISY * float(np.sqrt((abs(seen.u) ** 2).mean()))
    every = 1 if noisy else max(steps // SNAPSHOTS, 1)
    last = steps // every * every
    end = _number(last * dt)
    times = f"{{ start = 0.0, end = {end}, count = {last // every + 1} }}"
    largest = float(abs(seen.u).max())
    first = {s: f"{{ {_data(name, s)}, rows = [0, 0, 1] }}" for s in species}
    if axes is not None:
        first = {s: f"{{ {_data(name, FIRST)} }}" for s in species}
    if noisy:
        for one, state in first.items():
            unknowns += _field(_first(one), "identity", state)
        first = {s: f'"{_first(s)}"' for s in species}
    initial = ", ".join(f"{s} = {state}" for s, state in first.items())
    lines = [
        f"# {name}: coefficients start from the equation that was found of its data.",
        "",
        f'[case]\ntitle = "{name}"\nlength_unit = "1"',
        "",
        *_box(seen, axes),
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
            f'[[observation]]\nquantity = "{one}"\ntimes = {times}',
            f"data = [{{ {_data(name, one)}, rows = [0, {last}, {every}] }}]",
            f"sigma = {_number(noise if noisy else 0.01 * largest)}",
            "",
        ]
    for one, value in starts.items():
        if isinstance(value, np.ndarray) and regions is None:
            lines += [
                f'[[regularization]]\nunknown = "{one}"',
                'weight = "discrepancy"',
                "",
            ]
    return "\n".join(lines)


def _box(seen: Observed, axes: Sequence[np.ndarray] | None) -> list[str]:
    """The grid and its sides: periodic on a line whose ends are alike, else without flux."""
    alike = axes is None and (
        abs(seen.u[:, 0] - seen.u[:, -1]).max() <= EVEN * abs(seen.u).max()
    )
    ends = "periodic" if alike else "neumann"
    along = [seen.x] if axes is None else axes
    steps = [float(x[1] - x[0]) for x in along]
    pairs = list(zip(along, steps, strict=True))
    extent = ", ".join(_number(len(x) * dx) for x, dx in pairs)
    origin = ", ".join(_number(float(x[0]) - dx / 2) for x, dx in pairs)
    sides = [f'"{a}{s}" = "{ends}"' for a in AXES[: len(along)] for s in "-+"]
    shape = ", ".join(str(len(x)) for x in along)
    return [
        f"[grid]\nshape = [{shape}]\nextent = [{extent}]\norigin = [{origin}]",
        "",
        "\n".join(["[boundaries]", *sides]),
        "",
    ]


Parts = tuple[list[str], dict[str, Value | str]]
"""Terms of the equation, and where unknowns start: a value, or a text in x."""


def unknown_of(term: Term) -> str | None:
    """What a case calls the coefficient of a term; None where it has no such term."""
    if term.derivative == 2 and term.power == 1:
        return "D"
    if term.derivative:
        return None
    return "V" if term.imaginary and term.power == 1 else f"c{term.power}"


def start_of(values: np.ndarray, unknown: str) -> np.ndarray:
    """What an unknown field starts from: D is positive."""
    if unknown != "D":
        return -values if unknown == "V" else values
    found: np.ndarray = np.maximum(values, SMALL * values.max())
    return found


def _real_parts(terms: Sequence[Term], coefficients: Sequence[Value]) -> Parts | None:
    equation: list[str] = []
    powers: list[str] = []
    starts: dict[str, Value | str] = {}
    for term, value in zip(terms, coefficients, strict=True):
        name = unknown_of(term)
        if name == "D" and np.mean(value) > 0:
            equation.append('{ diffusion = "D" }')
        elif name is not None and name != "D":
            powers.append(f"{name}*{_raised(term.power)}")
        else:
            return None
        starts[name] = value
    if powers:
        equation.append(f'{{ kinetics = {{ u = "{" + ".join(powers)}" }} }}')
    return equation, starts


def _complex_parts(
    terms: Sequence[Term], coefficients: Sequence[Value]
) -> Parts | None:
    """Linear terms are those of i u_t, kinetics those of (re_t, im_t)."""
    equation: list[str] = []
    powers: list[str] = []
    starts: dict[str, Value | str] = {}
    for term, value in zip(terms, coefficients, strict=True):
        name = unknown_of(term)
        if name is None or not term.imaginary or name in starts:
            return None
        if name == "D" and np.mean(value) > 0:
            equation.append('{ diffusion = "D" }')
            starts[name] = value
        elif name == "V":
            equation.append('{ reaction = "V" }')
            varies = isinstance(value, np.ndarray)
            if varies and term.place:
                return None
            starts[name] = value if varies else f"{-value:.12g}*x**{term.place}"
        elif name != "D":
            powers.append(f"{name}*{_size(term.power - 1)}")
            starts[name] = value
        else:
            return None
    if powers:
        turned = "im", "re"
        sums = [" + ".join(f"{text}*{part}" for text in powers) for part in turned]
        equation.append(f'{{ kinetics = {{ re = "-({sums[0]})", im = "{sums[1]}" }} }}')
    return equation, starts


def _raised(power: int) -> str:
    return "u" if power == 1 else f"u**{power}"


def _size(power: int) -> str:
    """|u|^power, of an even power."""
    return "(re**2 + im**2)" + (f"**{power // 2}" if power > 2 else "")


def _first(species: str) -> str:
    """What the first state of a species is called, where it is sought."""
    return f"{species}0"


def _field(name: str, transform: str, initial: str) -> list[str]:
    head = f'[[unknown]]\nname = "{name}"\ntransform = "{transform}"'
    return [head, f"initial = {initial}", ""]


def _unknown(case: str, name: str, value: Value | str, by_pieces: bool) -> list[str]:
    transform = f'transform = "{"log" if name == "D" else "identity"}"'
    lines = [f'[[unknown]]\nname = "{name}"', transform]
    if isinstance(value, np.ndarray):
        lines.append(f"initial = {{ {_data(case, name)} }}")
        if by_pieces:
            lines.append(f"regions = {{ {_data(case, 'regions')} }}")
    elif isinstance(value, str):
        lines.append(f'initial = {{ expression = "{value}" }}')
    else:
        lines += ['kind = "scalar"', f"initial = {_number(value)}"]
    return [*lines, ""]


def _data(name: str, key: str) -> str:
    return f'file = "{name}.npz", key = "{key}"'


def _number(value: float) -> str:
    """As TOML has floats."""
    text = f"{float(value):.12g}"
    return text if any(sign in text for sign in ".en") else f"{text}.0"
