"""What is observed: where, when, what of the state, and its derivatives. Alike for steady states
and evolutions."""

from npde_opt.observations.blocks import Observations
from npde_opt.observations.data import ALL, DataBlock, DataLayout, Metric
from npde_opt.observations.functionals import Functionals, difference, together
from npde_opt.observations.observer import EVERY, Observer, When
from npde_opt.observations.places import (
    ball_mean,
    box_mean,
    cell_sum,
    integral,
    points_at,
    region_means,
    side_mean,
    voxel_means,
)
from npde_opt.observations.sampling import (
    Sampling,
    at_points,
    from_functionals,
    from_matrix,
    over_regions,
    snapshots,
    voxels,
)

__all__ = [
    "ALL",
    "EVERY",
    "DataBlock",
    "DataLayout",
    "Functionals",
    "Observations",
    "Observer",
    "Sampling",
    "Metric",
    "When",
    "at_points",
    "ball_mean",
    "box_mean",
    "cell_sum",
    "difference",
    "from_functionals",
    "from_matrix",
    "integral",
    "over_regions",
    "points_at",
    "region_means",
    "side_mean",
    "snapshots",
    "together",
    "voxel_means",
    "voxels",
]
