"""Samples of the posterior by Markov chains that do not slow down as grids are refined."""

from npde_opt.sampling.chain import Chain
from npde_opt.sampling.diagnostics import Diagnosis, diagnose
from npde_opt.sampling.folder import Kept
from npde_opt.sampling.inference import write_inference
from npde_opt.sampling.reference import AroundPosterior, AroundPrior, Reference
from npde_opt.sampling.run import Sampled, sample
from npde_opt.sampling.settings import SamplingSettings

__all__ = [
    "AroundPosterior",
    "AroundPrior",
    "Chain",
    "Diagnosis",
    "Kept",
    "Reference",
    "Sampled",
    "SamplingSettings",
    "diagnose",
    "sample",
    "write_inference",
]
