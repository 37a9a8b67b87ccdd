"""How far the Fisher curves of latents are from those of the data they encode.

The paper's deviation at equal tau depends on how latents are scaled: c z has c^-4 FIR(tau / c^2) where z has FIR(tau).
So latents are normalised by one number that is kept, and curves can be compared at equal signal-to-noise instead.
"""

import numpy as np

from hessfast import _checks

from .curves import Estimate, FisherCurve
from .dimension import Dimension, rounded

FORMS = ("plain", "per-dimension", "normal-dimension")


def fir_deviation(
    data: FisherCurve,
    latent: FisherCurve,
    form: str = "plain",
    *,
    scale: float = 1.0,
    intrinsic_dimension: float | Dimension | None = None,
    signed: bool = False,
) -> Estimate:
    """|FIR_latent / FIR_data - 1|, the latent's rate first brought to the data's dimension and scale.

    The paper defines only "plain" (fixed by its figure 3b); the other forms are ours.

    Args:
        data, latent: curves at tau and at scale^2 tau.
        form: "plain"; "per-dimension", FIR_latent times D / d; "normal-dimension", times (D - m) / (d - m), the number
            of directions that the data do not fill.
        scale: c, if latents were measured at c^2 tau: FIR_latent is then taken times c^4. 1: equal tau; for an equal
            signal-to-noise ratio see `snr_scale`.
        intrinsic_dimension: m, of "normal-dimension", or what `intrinsic_dimension` returns, rounded.
        signed: keep the sign: positive where latents have the greater rate. Without, the mean of a deviation that is
            within its error of 0 is too large, by most of that error.

    Returns:
        Standard errors as if the two curves were independent.

    Example:
        A curve does not deviate from itself.

        >>> import torch
        >>> from hessfast.diffusability import fisher_curve, from_denoiser
        >>> curve = fisher_curve(from_denoiser(lambda y, tau: y / (1 + tau)), torch.randn(64, 2), [1.0])
        >>> fir_deviation(curve, curve).mean.tolist()
        [0.0]
    """
    _checks.choice("form", form, FORMS)
    factor = _scaled(data, latent, scale) ** 4
    if form == "per-dimension":
        factor *= data.dim / latent.dim
    elif form == "normal-dimension":
        if intrinsic_dimension is None:
            raise ValueError("intrinsic_dimension must be given for the form normal-dimension, got None.")
        m = _checks.number("intrinsic_dimension", rounded(intrinsic_dimension))
        if not 0 <= m < min(data.dim, latent.dim):
            raise ValueError(f"intrinsic_dimension must be in [0, {min(data.dim, latent.dim)}), got {m}.")
        factor *= (data.dim - m) / (latent.dim - m)
    return _ratio("FIR", data.tau, data.fisher_information_rate, latent.fisher_information_rate, factor, signed)


def mmse_rate_deviation(
    data: FisherCurve, latent: FisherCurve, *, scale: float = 1.0, signed: bool = False
) -> Estimate:
    """|MMSE'_latent / MMSE'_data - 1|: 0 for flat isometric encoders whatever D and d; see `fir_deviation`.

    Example:
        A plane in three dimensions and its own coordinates.

        >>> import torch
        >>> from hessfast.diffusability import fisher_curve, from_denoiser
        >>> plane = from_denoiser(lambda y, tau: torch.tensor([0.5, 0.5, 0.0], dtype=y.dtype) * y)
        >>> x = torch.randn(64, 3, dtype=torch.float64) * torch.tensor([1.0, 1.0, 0.0])
        >>> curve = fisher_curve(plane, x, [1.0])
        >>> within = fisher_curve(from_denoiser(lambda y, tau: y / 2), x[:, :2], [1.0])
        >>> bool(mmse_rate_deviation(curve, within).mean < 1e-12)
        True
    """
    _scaled(data, latent, scale)
    return _ratio("MMSE'", data.tau, data.mmse_rate, latent.mmse_rate, 1.0, signed)


def _scaled(data: FisherCurve, latent: FisherCurve, scale: float) -> float:
    for name, curve in (("data", data), ("latent", latent)):
        if not isinstance(curve, FisherCurve):
            raise TypeError(f"{name} must be a FisherCurve, got {type(curve).__name__}. See fisher_curve.")
    c = _checks.positive("scale", scale)
    if data.tau.shape != latent.tau.shape or not np.allclose(latent.tau, c**2 * data.tau, rtol=1e-6, atol=0):
        raise ValueError(
            f"latent must be a curve at scale^2 times the data's tau, {(c**2 * data.tau)[:3].tolist()} and on, "
            f"got {latent.tau[:3].tolist()}."
        )
    return c


def _ratio(name: str, tau: np.ndarray, data: Estimate, latent: Estimate, factor: float, signed: bool) -> Estimate:
    if (lost := ~(data.mean > 0)).any():  # of no distribution: what rounding leaves
        raise ValueError(
            f"data must have {name} > 0, got {data.mean[lost][0]:g} at tau = {tau[lost][0]:.3g}. Measure it in float64."
        )
    ratio = factor * latent.mean / data.mean
    sem = np.abs(ratio) * np.hypot(data.sem / data.mean, latent.sem / latent.mean)
    return Estimate(ratio - 1 if signed else np.abs(ratio - 1), sem, np.minimum(data.num_samples, latent.num_samples))
