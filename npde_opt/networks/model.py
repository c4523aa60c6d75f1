"""A trained network in a file, an .npz of numpy:

    header               a text in JSON: format and version, architecture, what samples look like,
                         names of classes, versions of npde_opt and numpy, a checksum of the arrays
    weight W1, ...       the weights by name
    input shift, input scale, output shift, output scale
                         of each channel: a network sees (x - shift) / scale, and gives
                         (y - shift) / scale
    input roots, output roots
                         whether x and y are replaced by their square roots before

The architecture is a table as whoever built the network understands it.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

import npde_opt
from npde_opt.aliases import FilePath, Record
from npde_opt.errors import InputError
from npde_opt.networks.normalisation import Normalisation

FORMAT, VERSION = "npde_opt network", 1
HEADER, WEIGHT = "header", "weight "
NEEDED = {
    "architecture": dict,
    "channels": int,
    "shape": list,
    "classes": list,
    "checksum": str,
}
"""What a header has beside format and version."""


@dataclass(frozen=True)
class Model:
    """A trained network.

    Attributes:
        architecture: the tables of its layers.
        weights: by name.
        channels, shape: of a sample: its cells [k, j, i].
        inputs, outputs: how they are normalised.
        classes: their names; none of a network whose outputs are numbers.
        trained: in words, on what, and what came of it.
    """

    architecture: Record
    weights: Mapping[str, np.ndarray]
    channels: int
    shape: tuple[int, int, int]
    inputs: Normalisation
    outputs: Normalisation
    classes: Sequence[str] = ()
    trained: Record = field(default_factory=dict)

    def content(self) -> bytes:
        """The file."""
        arrays = self._arrays()
        header = {
            "format": FORMAT,
            "version": VERSION,
            "architecture": self.architecture,
            "channels": self.channels,
            "shape": list(self.shape),
            "classes": list(self.classes),
            "trained": self.trained,
            "npde_opt": npde_opt.__version__,
            "numpy": np.__version__,
            "checksum": checksum(arrays),
        }
        out = io.BytesIO()
        text = np.array(json.dumps(header, sort_keys=True))
        np.savez(out, **{HEADER: text}, **arrays)  # type: ignore[arg-type]
        return out.getvalue()

    def _arrays(self) -> dict[str, np.ndarray]:
        found = {
            WEIGHT + name: np.asarray(w, float) for name, w in self.weights.items()
        }
        for which, norm in (("input", self.inputs), ("output", self.outputs)):
            found[f"{which} shift"], found[f"{which} scale"] = norm.shift, norm.scale
            found[f"{which} roots"] = np.array(norm.roots)
        return found

    @classmethod
    def load(cls, path: FilePath) -> Model:
        """The model in a file.

        Raises:
            InputError: for what is no such file, a newer version of it, and one that is damaged.
        """
        allowed = "a model.npz that a training left"
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as loaded:
                arrays = {name: loaded[name] for name in loaded.files}
            header = json.loads(str(arrays.pop(HEADER)))
        except OSError as error:
            raise InputError(
                "MODEL", f"{path} ({error.strerror or error})", allowed
            ) from error
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            said = f"{path}, which is no model or damaged"
            raise InputError("MODEL", said, allowed) from error
        _check(path, header, arrays)
        k, j, i = header["shape"]
        return cls(
            header["architecture"],
            {
                n.removeprefix(WEIGHT): a
                for n, a in arrays.items()
                if n.startswith(WEIGHT)
            },
            header["channels"],
            (k, j, i),
            _normalisation(arrays, "input"),
            _normalisation(arrays, "output"),
            header["classes"],
            header.get("trained", {}),
        )


def _normalisation(arrays: Mapping[str, np.ndarray], which: str) -> Normalisation:
    shift, scale, roots = (
        arrays[f"{which} {name}"] for name in ("shift", "scale", "roots")
    )
    return Normalisation(shift, scale, bool(roots))


def _check(path: FilePath, header: object, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises InputError for another format, a newer version, and arrays that were changed."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(
            "MODEL", f"{path}, another kind of file", f"the format {FORMAT!r}"
        )
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        said = f"{path} of version {version}, by npde_opt {header.get('npde_opt')}"
        raise InputError(
            "MODEL", said, f"version {VERSION} at most: a newer npde_opt reads it"
        )
    wrong = [
        key for key, kind in NEEDED.items() if not isinstance(header.get(key), kind)
    ]
    if not wrong and checksum(arrays) != header["checksum"]:
        wrong = ["checksum"]
    if wrong:
        said = f"{path}, damaged: {', '.join(wrong)}"
        raise InputError("MODEL", said, "the file as it was written")


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Of names, shapes and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].shape} {arrays[name].dtype.str}".encode())
        total.update(np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()
