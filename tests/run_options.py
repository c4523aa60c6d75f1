"""Options of a run that a test makes itself, as the command line would give them."""

import argparse


def run_options(case, out, **given):
    """Those that are not given are as by default."""
    default = {
        "resume": False,
        "overwrite": False,
        "plot": False,
        "optimizer": None,
        "levels": None,
        "uncertainty": None,
    }
    return argparse.Namespace(case=case, out=out, **(default | given))
