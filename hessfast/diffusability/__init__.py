"""How fit a space is for diffusion: Fisher information, its rate and the MMSE over noise, from a denoiser or from data.

tau is a noise VARIANCE everywhere: Y = X + sqrt(tau) Z.
"""

from ._consistency import Doubt
from ._report_table import table
from .assessment import assess
from .autoencoder import Autoencoder
from .autoencoder_kl import KLAutoencoder
from .bounds import Bounds, fisher_information_bounds
from .curves import Estimate, FisherCurve, fisher_curve, fisher_information, fisher_information_rate, mmse_rate
from .denoisers import Denoiser, from_denoiser, from_diffusers, from_edm, from_edm_raw, from_flow, from_score
from .densities import ExactCurves, GaussianMixture, TransformedNormal, from_density, gaussian_curves
from .deviations import fir_deviation, mmse_rate_deviation
from .dimension import Dimension, intrinsic_dimension
from .empirical import EmpiricalDenoiser, empirical_denoiser
from .gpe import train_gpe
from .image_encoder import ImageEncoder
from .images import digits, read_images
from .latents import Normalisation, normalisation, serpentine, snr_scale
from .penalties import EncoderPenalties, Penalty, encoder_penalties, gpe_cost
from .quality import energy_distance, frechet_distance
from .sampling import generate
from .spheres import Sphere, WrappedNormal
from .streaming import FisherCurveMetric
from .trained import TrainedDenoiser
from .training import train_denoiser
from .vae import train_vae

__all__ = [
    "Autoencoder",
    "Bounds",
    "Denoiser",
    "Dimension",
    "Doubt",
    "EmpiricalDenoiser",
    "EncoderPenalties",
    "Estimate",
    "ExactCurves",
    "FisherCurve",
    "FisherCurveMetric",
    "GaussianMixture",
    "ImageEncoder",
    "KLAutoencoder",
    "Normalisation",
    "Penalty",
    "Sphere",
    "TrainedDenoiser",
    "TransformedNormal",
    "WrappedNormal",
    "assess",
    "digits",
    "empirical_denoiser",
    "encoder_penalties",
    "energy_distance",
    "fir_deviation",
    "fisher_curve",
    "fisher_information",
    "fisher_information_bounds",
    "fisher_information_rate",
    "frechet_distance",
    "from_denoiser",
    "from_density",
    "from_diffusers",
    "from_edm",
    "from_edm_raw",
    "from_flow",
    "from_score",
    "gaussian_curves",
    "generate",
    "gpe_cost",
    "intrinsic_dimension",
    "mmse_rate",
    "mmse_rate_deviation",
    "normalisation",
    "read_images",
    "serpentine",
    "snr_scale",
    "table",
    "train_denoiser",
    "train_gpe",
    "train_vae",
]
