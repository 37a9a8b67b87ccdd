"""How fit a space is for diffusion: Fisher information, its rate and the MMSE over noise, from a denoiser or from data.

tau is a noise VARIANCE everywhere: Y = X + sqrt(tau) Z.
"""

from .curves import Estimate, FisherCurve, fisher_curve
from .denoisers import Denoiser, from_denoiser, from_diffusers, from_edm, from_flow, from_score
from .densities import Activated, Exact, GaussianMixture, Sphere, denoiser, gaussian

__all__ = [
    "Activated",
    "Denoiser",
    "Estimate",
    "Exact",
    "FisherCurve",
    "GaussianMixture",
    "Sphere",
    "denoiser",
    "fisher_curve",
    "from_denoiser",
    "from_diffusers",
    "from_edm",
    "from_flow",
    "from_score",
    "gaussian",
]
