"""How fit a space is for diffusion: Fisher information, its rate and the MMSE over noise, from a denoiser or from data.

tau is a noise VARIANCE everywhere: Y = X + sqrt(tau) Z.
"""

from .curves import Estimate, FisherCurve, fisher_curve
from .denoisers import Denoiser, from_denoiser, from_diffusers, from_edm, from_flow, from_score
from .densities import Activated, Exact, GaussianMixture, Sphere, denoiser, gaussian
from .deviations import Normalisation, fir_deviation, mmse_rate_deviation, normalisation, serpentine
from .empirical import EmpiricalDenoiser, empirical
from .penalties import EncoderPenalties, Penalty, encoder_penalties, gpe_cost
from .training import train_denoiser

__all__ = [
    "Activated",
    "Denoiser",
    "EmpiricalDenoiser",
    "EncoderPenalties",
    "Estimate",
    "Exact",
    "FisherCurve",
    "GaussianMixture",
    "Normalisation",
    "Penalty",
    "Sphere",
    "denoiser",
    "empirical",
    "encoder_penalties",
    "fir_deviation",
    "fisher_curve",
    "from_denoiser",
    "from_diffusers",
    "from_edm",
    "from_flow",
    "from_score",
    "gaussian",
    "gpe_cost",
    "mmse_rate_deviation",
    "normalisation",
    "serpentine",
    "train_denoiser",
]
