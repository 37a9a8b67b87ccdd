"""How fit a space is for diffusion: Fisher information, its rate and the MMSE over noise, from a denoiser or from data.

tau is a noise VARIANCE everywhere: Y = X + sqrt(tau) Z.
"""

from .curves import Estimate, FisherCurve, fisher_curve
from .denoisers import Denoiser, from_denoiser, from_diffusers, from_edm, from_edm_raw, from_flow, from_score
from .densities import Activated, ExactCurves, GaussianMixture, Sphere, from_density, gaussian_curves
from .deviations import Normalisation, fir_deviation, mmse_rate_deviation, normalisation, serpentine
from .empirical import EmpiricalDenoiser, empirical
from .encoders import Autoencoder, digits, train_gpe, train_vae
from .penalties import EncoderPenalties, Penalty, encoder_penalties, gpe_cost
from .training import train_denoiser

__all__ = [
    "Activated",
    "Autoencoder",
    "Denoiser",
    "EmpiricalDenoiser",
    "EncoderPenalties",
    "Estimate",
    "ExactCurves",
    "FisherCurve",
    "GaussianMixture",
    "Normalisation",
    "Penalty",
    "Sphere",
    "digits",
    "empirical",
    "encoder_penalties",
    "fir_deviation",
    "fisher_curve",
    "from_denoiser",
    "from_density",
    "from_diffusers",
    "from_edm",
    "from_edm_raw",
    "from_flow",
    "from_score",
    "gaussian_curves",
    "gpe_cost",
    "mmse_rate_deviation",
    "normalisation",
    "serpentine",
    "train_denoiser",
    "train_gpe",
    "train_vae",
]
