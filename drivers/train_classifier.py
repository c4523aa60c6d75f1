"""Trains a network that tells classes apart, by default scikit-learn's handwritten digits.

    mpirun -n 2 python drivers/train_classifier.py --out results/digits --plot
    python drivers/train_classifier.py --case meshes/mnist_cnn.toml --data DIR --out results/mnist

Two dashes are this driver's options, one dash goes to PETSc (prefix tao_).
"""

from npde_opt.training.entry import train

if __name__ == "__main__":
    train(__doc__, __file__, "digits.toml")
