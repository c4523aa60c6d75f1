"""`python -m npde_opt predict MODEL FILES`: what a trained network makes of new pictures, arrays,
sequences and rows of tables.

    pictures (.png, ...)   grey ones
    .npy, .npz             inputs [sample, channel, z, y, x], axes of 1 may be left out
    .csv, .txt, ...        a row a sample, a column a channel
    .ts                    labelled sequences, of which the labels are not looked at

Classes and numbers go to predictions.csv; outputs on many cells to NAME-predicted.npy, of a picture
to NAME-predicted.png.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI

from npde_opt.aliases import Plain
from npde_opt.cases.typed import read
from npde_opt.errors import InputError, NpdeError
from npde_opt.grids import Grid
from npde_opt.io.files import disk, whole_file
from npde_opt.io.pictures import brightness
from npde_opt.io.tables import Layout, read_table
from npde_opt.networks import Network
from npde_opt.networks.model import Model
from npde_opt.training.arrays import contents, five_axes
from npde_opt.training.build import network_of
from npde_opt.training.given import Given, cells_along
from npde_opt.training.pictures import ENDS
from npde_opt.training.sections import LayerSection, NetworkSection
from npde_opt.training.sequences import read_sequences
from npde_opt.training.tables import numbers, one_cell

TABLES = (".csv", ".txt", ".dat", ".tsv")
AT_ONCE = 256
"""Samples that go through the layers together."""
MANY = 100
"""Outputs from which on they are an array or a picture."""
PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Layers:
    """The architecture that a model's file holds, read."""

    network: NetworkSection
    layer: list[LayerSection]


def layers_of(model: Model) -> Layers:
    """Raises InputError for layers that this version does not know."""
    told = model.architecture
    known = {"network": told.get("network", {}), "layer": told.get("layer")}
    if not isinstance(known["layer"], list) or not known["layer"]:
        raise InputError("MODEL: architecture", "no layers", "at least one")
    found = [
        read(f"MODEL: layer[{n}]", one, LayerSection)
        for n, one in enumerate(known["layer"])
    ]
    return Layers(read("MODEL: network", known["network"], NetworkSection), found)


class Predictor:
    """A model, ready for samples.

    Args:
        model: as `Model.load` gives it.

    Raises:
        InputError: for weights that are not those of its layers.
    """

    def __init__(self, model: Model):
        self.model, layers = model, layers_of(model)
        self.sequence = layers.layer[0].kind == "recurrent"
        self._layers, self._made = layers, dict[tuple[int, ...], Network]()
        network = self._network(model.shape)
        for name, shape in network.shapes.items():
            there = model.weights.get(name)
            if there is None or there.shape != shape:
                said = "nothing" if there is None else f"shape {there.shape}"
                raise InputError(f"MODEL: weight {name}", said, f"shape {shape}")

    @property
    def classifies(self) -> bool:
        return bool(self.model.classes)

    def _network(self, shape: tuple[int, int, int]) -> Network:
        """For samples of this shape, which may be another than that of the training where no layer
        is dense."""
        if shape not in self._made:
            cells = (1,) if self.sequence else cells_along(shape)
            grid = Grid(cells, comm=MPI.COMM_SELF)
            self._made[shape] = network_of(
                grid,
                self.model.channels,
                self._layers.layer,
                self._layers.network,
                shape[2],
            )
        return self._made[shape]

    def __call__(self, inputs: np.ndarray, where: str = "inputs") -> np.ndarray:
        """Outputs of samples: probabilities (sample, class), or [sample, channel, k, j, i].

        Args:
            inputs: [sample, channel, k, j, i], as the samples of the training were.

        Raises:
            InputError: for shapes that the network does not take, and values that are not finite.
        """
        self._check(inputs, where)
        shape: tuple[int, int, int] = inputs.shape[2:]
        network = self._network(shape)
        parts = [
            self._outputs(network, inputs[first : first + AT_ONCE])
            for first in range(0, len(inputs), AT_ONCE)
        ]
        return np.concatenate(parts)

    def _check(self, inputs: np.ndarray, where: str) -> None:
        wanted, there = (self.model.channels, *self.model.shape), inputs.shape[1:]
        # Stencils take any number of cells, on as many axes.
        free = not any(
            layer.kind in ("dense", "recurrent") for layer in self._layers.layer
        )
        axes = [len(cells_along((s[0], s[1], s[2]))) for s in (there[1:], wanted[1:])]
        fits = there == wanted or (
            free and there[0] == wanted[0] and axes[0] == axes[1]
        )
        if not len(inputs) or not fits:
            said = f"{len(inputs)} samples of {_told(there)}"
            allowed = f"samples of {_told(wanted)}" + (
                ", or of other numbers" if free else ""
            )
            raise InputError(where, said, allowed)
        if not np.isfinite(inputs).all():
            said = (
                f"{int((~np.isfinite(inputs)).sum())} values that are NaN or infinite"
            )
            raise InputError(where, said, "finite numbers")

    def _outputs(self, network: Network, inputs: np.ndarray) -> np.ndarray:
        given = Given(self.model.inputs.apply(inputs.astype(float)), self.sequence)
        forward = network.over(given)
        m = forward.space.from_values(dict(self.model.weights))
        at = forward.linearize(m)
        d = at.data[0].gather().T
        at.destroy()
        m.destroy()
        if self.classifies:
            shares = np.exp(d - d.max(axis=1, keepdims=True))
            found: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
            return found
        target = network.target
        cells = target.layout.shape[::-1]
        shape = (len(d), target.channels, *(1,) * (3 - len(cells)), *cells)
        return self.model.outputs.over(target.channels).undo(d.reshape(shape))


def _told(shape: Sequence[int]) -> str:
    channels, *cells = shape
    return f"{channels} channels on {' x '.join(map(str, cells))} cells (z, y, x)"


# ---- files --------------------------------------------------------------------------------------


def samples_of(path: Path, model: Model) -> np.ndarray:
    """The samples of a file [sample, channel, k, j, i].

    Raises:
        InputError: for a file that cannot be read, or of another kind.
    """
    end = path.suffix.lower()
    if not path.is_file():
        raise InputError("FILES", str(path), "an existing file")
    if end in ENDS:
        return brightness("FILES", path)[None, None, None]
    if end in (".npy", ".npz"):
        arrays = contents(path)
        if "inputs" not in arrays:
            raise InputError(
                str(path), f"arrays {', '.join(arrays)}", "an array inputs"
            )
        return five_axes(str(path), arrays["inputs"])
    if end in TABLES:
        table = read_table(path, Layout())
        return one_cell(numbers(table, list(range(len(table.rows[0])))))
    if end == ".ts":
        return read_sequences(path, model.shape[2])
    kinds = ", ".join((*ENDS, ".npy", ".npz", *TABLES, ".ts"))
    raise InputError("FILES", str(path), f"one of {kinds}")


def predict(model: Model, files: Sequence[Path], out: Path) -> list[str]:
    """Writes what the network makes of files; lines that say what was written where.

    Raises:
        InputError: as Predictor and `samples_of`, before anything is written.
    """
    predictor = Predictor(model)
    found = {}
    for path in files:
        found[path] = predictor(samples_of(path, model), str(path))
    rows = {p: o for p, o in found.items() if o[0].size <= MANY}
    places = _places(out, {p: o for p, o in found.items() if p not in rows})
    with disk("--out", out, "a folder that can be written"):
        out.mkdir(parents=True, exist_ok=True)
        lines = [_write_field(place, p, found[p]) for p, place in places.items()]
        if rows:
            text = _classes(model, rows) if predictor.classifies else _numbers(rows)
            with whole_file(out / PREDICTIONS) as file:
                file.write(text.encode())
            count = sum(map(len, rows.values()))
            lines.append(f"{count:,} samples in {out / PREDICTIONS}")
    return lines


def _places(out: Path, found: Mapping[Path, np.ndarray]) -> dict[Path, Path]:
    """Where the outputs on cells of each file go. Raises InputError for two of one name."""
    taken: dict[Path, Path] = {}
    for path, outputs in found.items():
        picture = path.suffix.lower() in ENDS and outputs.shape[:3] == (1, 1, 1)
        place = out / f"{path.stem}-predicted.{'png' if picture else 'npy'}"
        if place in taken:
            said = f"{taken[place]} and {path}, which both go to {place}"
            raise InputError(
                "FILES", said, "one of a name at a time, or --out for each"
            )
        taken[place] = path
    return {path: place for place, path in taken.items()}


def _told_apart(paths: Iterable[Path]) -> dict[Path, str]:
    """The names of files, with their folders where several have one name."""
    counts = Counter(path.name for path in paths)
    return {p: p.name if counts[p.name] == 1 else str(p) for p in paths}


def _classes(model: Model, found: Mapping[Path, np.ndarray]) -> str:
    heads = [f"p({name})" for name in model.classes]
    rows: list[list[Plain]] = [["file", "sample", "class", "probability", *heads]]
    told = _told_apart(found)
    for path, outputs in found.items():
        for number, p in enumerate(outputs):
            best = int(np.argmax(p))
            name = model.classes[best] if best < len(model.classes) else str(best)
            shares = [f"{v:.6g}" for v in p[: len(heads)]]
            rows.append([told[path], number, name, f"{p[best]:.6g}", *shares])
    return _csv(rows)


def _numbers(found: Mapping[Path, np.ndarray]) -> str:
    count = max(outputs[0].size for outputs in found.values())
    rows: list[list[Plain]] = [
        ["file", "sample", *(f"output{n}" for n in range(count))]
    ]
    told = _told_apart(found)
    for path, outputs in found.items():
        rows += [[told[path], n, *o.ravel().tolist()] for n, o in enumerate(outputs)]
    return _csv(rows)


def _csv(rows: Sequence[Sequence[Plain]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _write_field(place: Path, path: Path, outputs: np.ndarray) -> str:
    """Outputs on many cells: a picture of a picture, else an array."""
    content = io.BytesIO()
    if place.suffix == ".png":
        from PIL import Image

        grey = np.rint(255 * np.clip(outputs[0, 0, 0], 0, 1)).astype(np.uint8)
        Image.fromarray(grey).save(content, "png")
    else:
        np.save(content, outputs)
    with whole_file(place) as file:
        file.write(content.getvalue())
    return f"{path.name}: {place}"


def main(argv: Sequence[str]) -> int:
    """The command; its exit code."""
    p = argparse.ArgumentParser(
        prog="python -m npde_opt predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", metavar="MODEL", help="model.npz of a training")
    p.add_argument("files", metavar="FILE", nargs="+", help="samples")
    p.add_argument(
        "--out", default=".", help="folder for what is predicted; default: this one"
    )
    options = p.parse_args(list(argv))
    files = [Path(name) for name in options.files]
    try:
        lines = predict(Model.load(options.model), files, Path(options.out))
    except NpdeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(lines))
    return 0
