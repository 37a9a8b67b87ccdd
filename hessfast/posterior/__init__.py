"""p(t | x): where in parameter space a sample came from. Everything learned from samples starts here.

Every method has `fit(samples, parameters)` and `log_posterior(samples, grid, *, bundle)`; the answer is a `Posterior`,
one distribution a sample (or a bundle of consecutive samples of one parameter), never a matrix of samples by samples.
The prior is uniform over the nodes of the grid where a likelihood is known or learned (`ExactPosterior`,
`ExponentialFamilyPosterior`); by features and by U2-Net it is the distribution of the parameters of `fit`: draw these
evenly where posteriors are to be compared. `FeaturePosterior` takes bundles of one sample only, `U2NetPosterior` those
that it was trained with.
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
