"""The exponential-family posterior: statistics from pairs of samples, a kink if there is one, log Z by splines."""

from .posterior import ExponentialFamilyPosterior

__all__ = ["ExponentialFamilyPosterior"]
