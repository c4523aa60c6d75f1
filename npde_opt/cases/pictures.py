"""Grey pictures as fields: {picture = 'camera'} of scikit-image's own data, or {picture = 'FILE.png'}, between lo and hi."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from npde_opt.cases.fields import resample
from npde_opt.errors import InputError
from npde_opt.grids import Grid


def picture(field: str, spec: dict[str, Any], grid: Grid) -> np.ndarray:
    """Global array [i, j], y upwards, scaled to `range` = [lo, hi] (default 0 to 1), over `box` = [[x0, x1], [y0, y1]] (default
    the grid's); lo outside. Raises InputError naming the key that is wrong."""
    for key, allowed in (("range", (2,)), ("box", (2, 2))):
        if key in spec and np.shape(spec[key]) != allowed or key == "box" and np.any(np.diff(spec.get(key, [[0, 1]])) <= 0):
            raise InputError(f"{field}.{key}", spec[key], "[lo, hi]" if key == "range" else "[[x0, x1], [y0, y1]], increasing")
    wrong = set(spec) - {"picture", "range", "box"}
    if wrong:
        raise InputError(field, ", ".join(sorted(wrong)), "picture, range, box")
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(field, "a picture without pillow", "pip install 'npde_opt[plot,examples]'") from error
    path = Path(spec["picture"])
    if not path.suffix:
        found = importlib.util.find_spec("skimage")
        if found is None or found.submodule_search_locations is None:
            raise InputError(field, "scikit-image is not installed", "pip install 'npde_opt[examples]'")
        path = Path(found.submodule_search_locations[0]) / "data" / f"{path.name}.png"
    if not path.is_file():
        raise InputError(f"{field}.picture", str(spec["picture"]), "a picture of scikit-image's data, or a file")
    if grid.dim != 2:
        raise InputError(field, f"a picture on {grid.dim} axes", "2 axes")
    grey = np.asarray(Image.open(path).convert("L"), float).T[:, ::-1] / 255
    low, high = spec.get("range", [0.0, 1.0])
    ends = spec.get("box", [(e[0], e[-1]) for e in grid.edges])
    box = [np.linspace(a, b, n + 1) for (a, b), n in zip(ends, grey.shape, strict=True)]
    return low + (high - low) * resample(grey, box, list(grid.edges))
