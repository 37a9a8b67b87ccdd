"""p(t | x): where in parameter space a sample came from. Everything learned from samples starts here.

Every method has `fit(samples, parameters)` and `log_posterior(samples, grid)`, with a uniform prior over the nodes of
the grid; the answer is a `Posterior`, one distribution a sample (or a bundle of samples), never a matrix of samples by
samples.
"""

from .exact import ExactPosterior
from .exponential_family import ExponentialFamilyPosterior
from .feature import FeaturePosterior
from .grid import Grid
from .patterns import ising_patterns, tasep_profile
from .result import Posterior
from .u2net import U2NetPosterior

__all__ = [
    "ExactPosterior",
    "ExponentialFamilyPosterior",
    "FeaturePosterior",
    "Grid",
    "Posterior",
    "U2NetPosterior",
    "ising_patterns",
    "tasep_profile",
]
