"""The format of a training case as a Markdown page, from the structs that read it."""

from __future__ import annotations

from npde_opt.cases.document import sections_of
from npde_opt.training.sections import TrainingFile

HEAD = """# The format of a training case

A training case is a TOML file. It says which samples there are, of which layers the network
consists, what is minimized and how:

```toml
[data]
kind = "digits"                   # of scikit-learn: 1,797 of 8 x 8
test = 0.3                        # a share of each class

[[layer]]
kind = "convolution"
channels = 8
activation = "relu"

[[layer]]
kind = "dense"
channels = 10                     # as many as classes

[[regularization]]                # of all weights but biases
weight = 1.0

[optimizer]
method = "lbfgs"
```

`drivers/train_classifier.py --case CASE --out DIR` trains it. Relative files are looked for beside
the case, then in `--data`. Weights have names: `W1`, `V1`, `U1`, `K1`, `b1`, `theta1` of the first
layer, and so on.
"""


def document() -> str:
    """The page."""
    return "\n".join([HEAD, *sections_of(TrainingFile)])
