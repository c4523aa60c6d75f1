"""Trains a recurrent network on a series or on sequences, by default the yearly sunspots.

    python drivers/train_sequence.py --out results/sunspots --plot
    mpirun -n 2 python drivers/train_sequence.py --case meshes/japanese_vowels.toml
        --out results/vowels

Two dashes are this driver's options, one dash goes to PETSc (prefix tao_).
"""

from npde_opt.training.entry import train

if __name__ == "__main__":
    train(__doc__, __file__, "sunspots.toml")
