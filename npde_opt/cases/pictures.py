"""Grey pictures as fields: {picture = 'camera'} of scikit-image's own data, or {picture =
'FILE.png'}, between lo and hi."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from npde_opt.aliases import Record
from npde_opt.cases.parts import Part
from npde_opt.cases.resampling import Resampling
from npde_opt.cases.sources import Sources
from npde_opt.errors import InputError
from npde_opt.io.gridded import box_text
from npde_opt.io.pictures import brightness


def picture(field: str, spec: Record, part: Part, sources: Sources) -> np.ndarray:
    """Values [i, j] on the cells of a part, y upwards, scaled to `range` = [lo, hi] (default
    0 to 1), over `box` = [[x0, x1], [y0, y1]] (default the grid's); lo outside.

    Raises:
        InputError: naming the key that is wrong, and for a damaged file.
    """
    edges = part.edges
    if len(edges) != 2:
        raise InputError(field, f"a picture on {len(edges)} axes", "2 axes")
    # Rows go down; y goes up.
    path = picture_file(field, spec["picture"], sources)
    grey = brightness(f"{field}.picture", path).T[:, ::-1]
    low, high = spec.get("range", [0.0, 1.0])
    ends = spec.get("box", [(e[0], e[-1]) for e in edges])
    if any(last <= first for first, last in ends):
        raise InputError(f"{field}.box", ends, "[[x0, x1], [y0, y1]], increasing")
    box = [np.linspace(a, b, n + 1) for (a, b), n in zip(ends, grey.shape, strict=True)]
    way = Resampling(box, part, nearest=False)
    values = low + (high - low) * way(grey[way.window])
    place = grey.shape, box_text(box)
    sources.log.note(field, str(spec["picture"]), values, *place, part.comm)
    return values


def picture_file(field: str, name: str, sources: Sources) -> Path:
    """A file of the case, or a picture of scikit-image by its name without an extension.

    Raises:
        InputError: where there is none.
    """
    if Path(name).suffix:
        return sources.find(f"{field}.picture", name)
    found = importlib.util.find_spec("skimage")
    if found is None or found.submodule_search_locations is None:
        raise InputError(
            field, "scikit-image is not installed", "pip install 'npde_opt[examples]'"
        )
    path = Path(found.submodule_search_locations[0]) / "data" / f"{Path(name).name}.png"
    if not path.is_file():
        allowed = "a picture of scikit-image's data, or a file"
        raise InputError(f"{field}.picture", str(name), allowed)
    return path
