"""Data of an evolution case: measured values by experiment, observation, time and place, or
simulated ones with noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npde_opt.cases.measured import by_time, deviation, positive, some
from npde_opt.cases.placing import cells
from npde_opt.cases.tables import read_values
from npde_opt.ensemble import Ensemble
from npde_opt.errors import InputError
from npde_opt.forward import Storage
from npde_opt.misfits import default_floor

if TYPE_CHECKING:
    from npde_opt.cases.evolution_case import EvolutionCase


@dataclass(frozen=True)
class Series:
    """Data of all experiments: values and standard deviations by sampling, time and place (NaN: not
    observed)."""

    observed: list[np.ndarray]
    sigma: list[np.ndarray]
    origin: str


def prepare(case: EvolutionCase, ensemble: Ensemble) -> Series:
    """Reads the data, or simulates them on a finer grid with noise. Collective."""
    case.choose_steps(ensemble)
    with ensemble.together():
        # Its errors come first.
        forward = case.forward(case.grid(ensemble.space), list(ensemble.own(case.experiment_count)))
        case.plan = forward.storage
        sizes = [(len(s.times), s.size) for s in forward.observers[0].samplings]
        forward.destroy()
        found = [measured(case, e, sizes) for e in range(case.experiment_count)]
    simulated = None
    if any(o["data"] is None for o in case.table["observation"]):
        simulated = _simulate(case, ensemble)
    rng = np.random.default_rng([case.seed, 2])
    observed, sigmas = [], []
    with ensemble.together():
        for e in range(case.experiment_count):
            parts = _experiment_data(case, e, found[e], simulated, rng)
            observed.append(np.concatenate([values for values, _ in parts]))
            sigmas.append(np.concatenate([deviations for _, deviations in parts]))
        some("observation.data", *observed)
    return Series(observed, sigmas, _origin(case))


def measured(case: EvolutionCase, e: int, sizes: list[tuple[int, int]]) -> list[np.ndarray | None]:
    """Measured values of an experiment by observation, each flat by time and place; None where they
    are simulated.

    Args:
        sizes: numbers of times and places of the observations.

    Raises:
        InputError: for files that are wrong, and for as many files as experiments where there are
            others.
    """
    found: list[np.ndarray | None] = []
    for i, o in enumerate(case.table["observation"]):
        field = f"observation[{i}].data"
        if o["data"] is not None and len(o["data"]) != case.experiment_count:
            raise InputError(
                field, f"{len(o['data'])} files", f"{case.experiment_count}, one an experiment"
            )
        found.append(
            None if o["data"] is None else _series(case, f"{field}[{e}]", o["data"][e], o, sizes[i])
        )
    return found


def _series(
    case: EvolutionCase, field: str, spec: dict[str, Any], o: dict[str, Any], size: tuple[int, int]
) -> np.ndarray:
    """Values of a file, flat by time and place."""
    everywhere = o["points"] is None and o["regions"] is None
    shape = cells(case.domain.edges) if everywhere else None
    return by_time(field, read_values(field, spec, case.sources), *size, shape)


def _experiment_data(
    case: EvolutionCase,
    e: int,
    measured: list[np.ndarray | None],
    simulated: Any,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values and standard deviations by observation; noise goes to simulated data, and to measured
    ones on request."""
    parts, first = [], 0
    for i, o in enumerate(case.table["observation"]):
        clean = measured[i]
        if clean is None:
            sampled = simulated[e][0][i]
            clean = simulated[e][1][first : first + sampled]
            first += sampled
        deviations = sigma(case, f"observation[{i}]", o, e, clean)
        if measured[i] is None or o.get("add_noise"):
            clean = clean + spread(case, deviations, clean) * rng.standard_normal(clean.size)
        parts.append((clean, deviations))
    return parts


def sigma(
    case: EvolutionCase, field: str, o: dict[str, Any], e: int, values: np.ndarray
) -> np.ndarray:
    """Standard deviations of an experiment's data: a number, a file (for all experiments, or one
    each), or relative."""
    given = o["sigma"]
    if given is None:
        s = deviation(field, o["noise"], values)
        misfit, rms = case.table["misfit"], s / o["noise"]
        return np.full(
            values.size,
            s * rms ** -misfit["power"] if misfit["kind"] == "proportional" and rms > 0 else s,
        )
    if isinstance(given, int | float):
        return np.full(values.size, float(given))
    if isinstance(given, list) and len(given) != case.experiment_count:
        raise InputError(
            f"{field}.sigma",
            f"{len(given)} files",
            f"one, or {case.experiment_count}: one an experiment",
        )
    spec = given[e] if isinstance(given, list) else given
    times = len(case.observed_times(field, o))
    found = _series(case, f"{field}.sigma", spec, o, (times, values.size // times))
    return positive(f"{field}.sigma", found, values)


def floor(case: EvolutionCase, data: Sequence[np.ndarray]) -> float:
    """Of proportional errors: as given, or a share of the largest of the data."""
    given = case.table["misfit"]["floor"]
    return float(given) if given is not None else default_floor(np.concatenate(data))


def spread(case: EvolutionCase, deviations: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Standard deviations of noise, as the misfit takes it to be."""
    t = case.table["misfit"]
    return (
        deviations * np.maximum(np.abs(values), floor(case, [values])) ** t["power"]
        if t["kind"] == "proportional"
        else deviations
    )


def _origin(case: EvolutionCase) -> str:
    """Where the data come from, in words."""
    files = [o["data"][0]["file"] for o in case.table["observation"] if o["data"] is not None]
    if files:
        added = any(o["data"] is not None and o.get("add_noise") for o in case.table["observation"])
        return f"data from {', '.join(files)}" + (", noise added" if added else "")
    return f"data simulated on {'a finer' if case.table['simulation']['refine'] > 1 else 'the same'} grid"


def _simulate(case: EvolutionCase, ensemble: Ensemble) -> list[tuple[list[int], np.ndarray]]:
    """Noise-free data of the truth: sizes and values of the samplings without data, by
    experiment."""
    with ensemble.together():
        found = _simulate_own(case, ensemble)
    everything: dict[int, Any] = {}
    for part in ensemble.across.allgather(found):
        everything |= part
    return [everything[e] for e in range(case.experiment_count)]


def _simulate_own(
    case: EvolutionCase, ensemble: Ensemble
) -> dict[int, tuple[list[int], np.ndarray]]:
    """Those of the group's experiments. Collective in the group."""
    refine, cut = (case.table["simulation"][k] for k in ("refine", "steps"))
    edges = [refined(e, refine) for e in case.domain.edges]
    grid = case.domain.grid(ensemble.space, edges)
    own = list(ensemble.own(case.experiment_count))
    forward = case.forward(grid, own, cut, Storage(forward_only=True))
    m = case.start(forward.space, "truth")
    lin = forward.linearize(m)
    found = {}
    for k, e in enumerate(own):
        sizes = [len(s.times) * s.size for s in forward.observers[k].samplings]
        values = forward.observers[k].gather(lin.data[k])
        ends = np.cumsum([0, *sizes])
        picked = [i for i, o in enumerate(case.table["observation"]) if o["data"] is None]
        wanted = np.concatenate([values[ends[i] : ends[i + 1]] for i in picked])
        found[e] = ([sizes[i] if i in picked else 0 for i in range(len(sizes))], wanted)
    lin.destroy()
    forward.destroy()
    m.destroy()
    grid.destroy()
    return found


def refined(edges: np.ndarray, factor: int) -> np.ndarray:
    """Edges with every cell cut into `factor`."""
    parts = np.arange(factor) / factor
    return np.append((edges[:-1, None] + np.diff(edges)[:, None] * parts).ravel(), edges[-1])
