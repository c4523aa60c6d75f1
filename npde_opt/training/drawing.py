"""Figures of a training, from the network of its first split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from npde_opt.figures.training import (
    plot_confusion,
    plot_filters,
    plot_functions,
    plot_misread,
    plot_pictures,
    plot_training,
)
from npde_opt.networks import EXPANSIONS
from npde_opt.runs.folder import RunDirectory
from npde_opt.training import optics
from npde_opt.training.baselines import psnr
from npde_opt.training.comparison import pairs
from npde_opt.training.data import Part
from npde_opt.training.problem import Problem, Seen
from npde_opt.training.samples import Source

CONFUSION, MISREAD, FILTERS, COURSE = (
    "confusion.png",
    "misread.png",
    "filters.png",
    "training.png",
)
FUNCTIONS, PICTURES = "functions.png", "pictures.png"
FIGURES = (CONFUSION, MISREAD, FILTERS, FUNCTIONS, PICTURES, COURSE, *optics.FIGURES)
MOST = 40
"""Misread samples that are drawn."""
LIT = 3
"""Samples whose light is drawn."""
MOST_PICTURES = 6
"""That are drawn before and after."""


def draw(
    out: RunDirectory,
    problem: Problem,
    weights: Mapping[str, np.ndarray],
    confusion: np.ndarray | None,
    tests: Sequence[tuple[Part, Seen]],
) -> None:
    """All figures that the case has. Collective; rank 0 draws.

    Args:
        confusion: how many samples of each class were taken for which one.
        tests: what the network makes of them.
    """
    if optics.optical(problem.network) and tests:
        _draw_light(out, problem, weights, *tests[0])
    history = [row for row in out.history() if row.get("split", 0) == 0]
    if out.comm.rank > 0:
        return
    names = [n for n in (history[0] if history else {}) if n.startswith("validation_")]
    parted = any(section.batch is not None for section in problem.case.table.optimizer)
    label = "training, mean over an epoch's batches" if parted else "training"
    plot_training(out.file(COURSE), history, names, problem.parts.train.count, label)
    single = dict(_by_step(problem, weights))
    stencils = {n: w for n, w in single.items() if _is_picture(n, w)}
    if stencils:
        plot_filters(out.file(FILTERS), stencils)
    functions = dict(_functions(problem, single))
    if functions:
        plot_functions(out.file(FUNCTIONS), functions)
    if problem.case.denoises:
        _draw_pictures(out, problem, tests)
    if confusion is not None:
        plot_confusion(out.file(CONFUSION), confusion, problem.source.classes)
        _draw_misread(out, problem.source, tests)


def _draw_light(
    out: RunDirectory,
    problem: Problem,
    weights: Mapping[str, np.ndarray],
    part: Part,
    seen: Seen,
) -> None:
    """Of the first samples of a part. Collective."""
    source, first = part.source, slice(0, LIT)
    names, titles = source.classes, list[str]()
    if source.labels is not None:
        labels = source.labels[part.numbers[seen.numbers[first]]]
        found = seen.classes[first].astype(int)
        titles = [
            f"{names[label]} read as {names[n]}"
            for label, n in zip(labels, found, strict=True)
        ]
    given = problem.first(part, LIT)
    optics.draw_optics(out, problem.network, weights, given, names, titles)


def _by_step(
    problem: Problem, weights: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Weights of one layer each: those of steps are taken apart."""
    for name, w in weights.items():
        if problem.network.weights[name][0].step is None:
            yield name, w
        else:
            yield from ((f"{name}, step {n}", own) for n, own in enumerate(w, 1))


def _functions(
    problem: Problem, weights: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Activations that are learnt, between their outermost knots."""
    for number, layer in enumerate(problem.case.table.layer, 1):
        if layer.activation not in EXPANSIONS:
            continue
        activation = EXPANSIONS[layer.activation](layer.knots, layer.reach)
        v = np.linspace(-layer.reach, layer.reach, 8 * layer.knots)
        for name, theta in weights.items():
            if name.split(",")[0] == f"theta{number}":
                every = np.broadcast_to(v, (len(theta), 1, len(v))).copy()
                yield (
                    name.replace("theta", "layer "),
                    (v, activation.value(every, theta)[:, 0]),
                )


def _is_picture(name: str, w: np.ndarray) -> bool:
    """Whether weights are stencils of two axes, of one layer."""
    return name.startswith("W") and w.ndim == 4 and min(w.shape[2:]) > 1


def _draw_pictures(
    out: RunDirectory, problem: Problem, tests: Sequence[tuple[Part, Seen]]
) -> None:
    """Pictures of the tests as the network was given them, what it made of them, and the truth."""
    rows: list[list[tuple[str, np.ndarray]]] = []
    noise = problem.case.noise(problem.split) or 0.0
    for part, seen in tests:
        first = Part(part.name, part.source, part.numbers[: MOST_PICTURES - len(rows)])
        for (given, clean), output in zip(
            pairs(problem.case, [first], noise), seen.outputs, strict=False
        ):
            found = output.reshape(clean.shape)
            before, after = psnr(given, clean), psnr(found, clean)
            rows.append(
                [
                    (f"with noise: {before:.2f} dB", given),
                    (f"network: {after:.2f} dB", found),
                    ("without noise", clean),
                ]
            )
    if rows:
        plot_pictures(out.file(PICTURES), rows)


def _draw_misread(
    out: RunDirectory, source: Source, tests: Sequence[tuple[Part, Seen]]
) -> None:
    """Those of the tests that are pictures, the surest first."""
    if source.shape[0] > 1 or min(source.shape[1:]) < 2:
        return
    pictures, titles, count = [], [], 0
    for part, seen in tests:
        assert part.source.labels is not None
        numbers = part.numbers[seen.numbers]
        labels, found = part.source.labels[numbers], seen.classes.astype(int)
        missed = np.flatnonzero(found != labels)
        sure = seen.outputs[missed, found[missed]]
        chosen = missed[np.argsort(-sure)][:MOST]
        count += len(missed)
        pictures += list(part.source.samples(numbers[chosen]).inputs[:, 0, 0])
        titles += [
            f"{source.classes[labels[n]]} as {source.classes[found[n]]}" for n in chosen
        ]
    if pictures:
        title = f"{len(pictures[:MOST])} of {count} misread, the surest first"
        plot_misread(out.file(MISREAD), np.stack(pictures), titles, title)
