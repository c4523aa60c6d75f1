"""Runs one driver on many numbers of ranks, and says what it costs there and elsewhere.

    python drivers/scaling_study.py --out results/study --ranks 1 2 4 --grid 128 128 \\
        --kinds strong weak --predict 4096x128 -- drivers/identify.py --case meshes/lognormal.toml

Not under mpirun: it starts the runs. The same command goes on with a study that was cut off.
"""

import sys

from npde_opt.scaling.entry import study

if __name__ == "__main__":
    sys.exit(study(__doc__, sys.argv[1:]))
