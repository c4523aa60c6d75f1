"""Trains a network that takes noise from pictures, by default some that scikit-image ships.

    python drivers/train_denoiser.py --out results/denoiser --plot
    mpirun -n 2 python drivers/train_denoiser.py --case meshes/denoiser_bsd.toml --data DIR
        --out results/bsd

Two dashes are this driver's options, one dash goes to PETSc (prefix tao_).
"""

from npde_opt.training.entry import train

if __name__ == "__main__":
    train(__doc__, __file__, "denoiser_demo.toml")
