"""What keys of different sections of a training case say of each other."""

from __future__ import annotations

from collections.abc import Mapping

from npde_opt.aliases import Plain
from npde_opt.cases.rules import check_petsc
from npde_opt.cases.typed import read
from npde_opt.errors import InputError
from npde_opt.optimizers.interface import EPOCHS
from npde_opt.training.sections import LayerSection, TrainingFile

LEARNT = ("piecewise-linear", "radial-basis")
"""Activations with weights."""
NOT_HEARD = ("levels", "learnt", "restarts", "spread", "name", "options")
"""Keys of [optimizer] that say nothing here."""
OF_EPOCHS = (
    *("rate", "schedule", "decay", "period", "warm_up", "betas", "epsilon"),
    *("weight_decay", "batch", "clip"),
)
"""Keys of [optimizer] that say something to adam and adamw alone."""
NEEDED = {
    "pictures": "folder",
    "archive": "name",
    "table": "file",
    "series": "file",
    "sequences": "file",
    "arrays": "file",
}
"""A key of [data] that a kind needs."""


def validated(raw: Mapping[str, Plain]) -> TrainingFile:
    """The case with defaults filled in. Raises InputError naming the first key that is wrong."""
    table: TrainingFile = read("", raw, TrainingFile)
    check_petsc(table.petsc)
    _check_data(table)
    for number, layer in enumerate(table.layer):
        _check_layer(f"layer[{number}]", layer, _given(raw, number))
        if layer.kind == "recurrent" and number:
            raise InputError(
                f"layer[{number}].kind", "recurrent", "the first layer alone"
            )
    _check_loss(table, raw)
    _check_start(table)
    _check_optimizers(raw)
    return table


def _given(raw: Mapping[str, Plain], number: int) -> Mapping[str, Plain]:
    """The keys of a layer that the case gives."""
    layers = raw["layer"]
    found: Mapping[str, Plain] = layers if isinstance(layers, dict) else layers[number]
    return found


def _check_data(table: TrainingFile) -> None:
    data = table.data
    needed = NEEDED.get(data.kind)
    if needed and getattr(data, needed) is None:
        raise InputError(
            f"data.{needed}", "nothing", f"a value, with the kind {data.kind}"
        )
    if data.kind == "table" and (data.targets is None) == (data.label is None):
        said = "neither" if data.targets is None else "both"
        raise InputError("data.targets, data.label", said, "one of them")

    if data.versions > 1 and data.crop is None:
        raise InputError("data.versions", data.versions, "1, or a crop")
    if data.normalisation == "noise" and data.noise is None:
        raise InputError("data.normalisation", "noise", "with a noise")
    if isinstance(data.noise, list) and data.splits > 1:
        raise InputError("data.noise", data.noise, "one, with several splits")
    if isinstance(data.test, list) and data.kind != "skimage":
        raise InputError("data.test", data.test, "a list of the kind skimage alone")


def _check_layer(where: str, layer: LayerSection, given: Mapping[str, Plain]) -> None:
    for key in ("knots", "reach"):
        if key in given and layer.activation not in LEARNT:
            allowed = f"with the activation {' or '.join(LEARNT)}"
            raise InputError(
                f"{where}.{key}", f"given with {layer.activation}", allowed
            )
    if layer.start is not None and not (layer.symmetric and layer.activation in LEARNT):
        allowed = f"with symmetric layers and the activation {' or '.join(LEARNT)}"
        raise InputError(f"{where}.start", "given", allowed)
    if layer.hidden is not None and not layer.linear:
        raise InputError(f"{where}.hidden", layer.hidden, "nothing, or linear = true")
    for key in ("activation", "bias"):
        if key in given and layer.kind == "diffractive":
            raise InputError(
                f"{where}.{key}", "given", "with other kinds than diffractive"
            )
    if layer.channels is None and layer.kind != "residual":
        raise InputError(
            f"{where}.channels", "nothing", f"a number, of a {layer.kind} layer"
        )
    if "shared" in given and layer.repeat == 1:
        raise InputError(f"{where}.shared", "given", "with a repeat of at least 2")


def _check_start(table: TrainingFile) -> None:
    """Raises InputError for penalties of the distance from weights that are not begun with."""
    learnt = (table.network.hidden, table.network.last) != ("drawn", "drawn")
    for number, section in enumerate(table.regularization):
        if section.towards == "start" and learnt:
            where = f"regularization[{number}].towards"
            raise InputError(where, "start", "zero, where [network] learns the start")


def _check_optimizers(raw: Mapping[str, Plain]) -> None:
    """Raises InputError for keys that are of grids and starts, which a training has none of, and
    for those that another method would not hear of."""
    given = raw.get("optimizer", [])
    for number, section in enumerate([given] if isinstance(given, dict) else given):
        for key in NOT_HEARD:
            if key in section:
                allowed = "nothing: a training has one grid, and data.splits for several networks"
                raise InputError(f"optimizer[{number}].{key}", section[key], allowed)
        for key in OF_EPOCHS:
            if key in section and section.get("method") not in EPOCHS:
                allowed = f"with the methods {' and '.join(EPOCHS)} alone"
                raise InputError(f"optimizer[{number}].{key}", section[key], allowed)


def _check_loss(table: TrainingFile, raw: Mapping[str, Plain]) -> None:
    loss = raw.get("loss", {})
    if table.loss.kind == "softmax" and "sigma" in loss:
        raise InputError(
            "loss.sigma", "given with softmax", "of numbers that are sought"
        )
