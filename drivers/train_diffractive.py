"""Trains masks that light passes to tell classes apart, by default digits of scikit-learn.

    mpirun -n 2 python drivers/train_diffractive.py --out results/optics --plot
    python drivers/train_diffractive.py --case meshes/mnist_optics.toml --data DIR --out mnist

Two dashes are this driver's options, one dash goes to PETSc (prefix tao_).
"""

from npde_opt.training.entry import train

if __name__ == "__main__":
    train(__doc__, __file__, "digits_optics.toml")
