"""Derivatives of a potential at many points: value, gradient, Hessian, and what geodesics need of the third.

A potential maps points `[n, dim]` to `[n]` or `[n, 1]`, each point for itself: a module or any other callable that
torch can differentiate; of a fitted `LogPartition` or `ExponentialFamilyPosterior` it is log Z, beyond the
parameters of the fit as well as it continues. Three forms of one answer:

    fused      multilayer perceptrons in float32, by the kernel `mlp_hessian`: 2 + dim forward passes a Hessian;
               on a GPU by default up to dim = 8
    eager      anything: reverse mode over reverse mode, 2 + 2 dim forward passes
    compiled   what torch.compile takes, by torch.func.hessian inside it (on a CPU this needs a C++ compiler)

By default the first that can.
"""

from ._forms import FORMS
from .products import directional_third, gradient, hessian_along, hvp
from .pullback import pullback_metric
from .second_order import Derivatives, derivatives, fisher_metric

__all__ = [
    "FORMS",
    "Derivatives",
    "derivatives",
    "directional_third",
    "fisher_metric",
    "gradient",
    "hessian_along",
    "hvp",
    "pullback_metric",
]
