"""log Z learned from posteriors, and with it the means and the Fisher metric: its gradient and its Hessian."""

from .affine import affine_fit, align
from .learned import LogPartition

__all__ = ["LogPartition", "affine_fit", "align"]
