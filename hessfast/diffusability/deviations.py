"""How far the Fisher curves of latents are from those of the data they encode.

The paper's deviation at equal tau depends on how latents are scaled: c z has c^-4 FIR(tau / c^2) where z has FIR(tau).
So latents are normalised by one number that is kept, and curves can be compared at equal signal-to-noise instead.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks

from .curves import Estimate, FisherCurve

FORMS = ("plain", "per-dimension", "normal-dimension")


def fir_deviation(
    data: FisherCurve,
    latent: FisherCurve,
    form: str = "plain",
    *,
    scale: float = 1.0,
    dimension: float | None = None,
    signed: bool = False,
) -> Estimate:
    """|FIR_latent / FIR_data - 1|, the latent's rate first brought to the data's dimension and scale.

    Only "plain" is stated by the paper, and pinned by its figure 3b; what it scales elsewhere is not said, so that the
    other forms are ours.

    Args:
        data, latent: curves at tau and at scale^2 tau.
        form: "plain"; "per-dimension", FIR_latent times D / d; "normal-dimension", times (D - m) / (d - m), the number
            of directions that the data do not fill.
        scale: c, if latents were measured at c^2 tau: FIR_latent is then taken times c^4. 1: equal tau; for an equal
            signal-to-noise ratio see `snr_scale`.
        dimension: m, of "normal-dimension".
        signed: keep the sign: positive where latents have the greater rate.

    Returns:
        Standard errors as if the two curves were independent.

    Example:
        A curve does not deviate from itself.

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
        m = float(_checks.float_array("dimension", np.nan if dimension is None else dimension))
        if not 0 <= m < min(data.dim, latent.dim):
            raise ValueError(f"dimension must be in [0, {min(data.dim, latent.dim)}), got {m}.")
        factor *= (data.dim - m) / (latent.dim - m)
    return _ratio(data.fisher_information_rate, latent.fisher_information_rate, factor, signed)


def mmse_rate_deviation(
    data: FisherCurve, latent: FisherCurve, *, scale: float = 1.0, signed: bool = False
) -> Estimate:
    """|MMSE'_latent / MMSE'_data - 1|: 0 for flat isometric encoders whatever D and d; see `fir_deviation`."""
    _scaled(data, latent, scale)
    return _ratio(data.mmse_rate, latent.mmse_rate, 1.0, signed)


def _scaled(data: FisherCurve, latent: FisherCurve, scale: float) -> float:
    c = float(_checks.float_array("scale", scale))
    if not c > 0:
        raise ValueError(f"scale must be > 0, got {scale}.")
    if data.tau.shape != latent.tau.shape or not np.allclose(latent.tau, c**2 * data.tau, rtol=1e-6):
        raise ValueError(
            f"latent must be a curve at scale^2 times the data's tau, {(c**2 * data.tau)[:3].tolist()} and on, "
            f"got {latent.tau[:3].tolist()}."
        )
    return c


def _ratio(data: Estimate, latent: Estimate, factor: float, signed: bool) -> Estimate:
    ratio = factor * latent.mean / data.mean
    sem = np.abs(ratio) * np.hypot(data.sem / data.mean, latent.sem / latent.mean)
    return Estimate(ratio - 1 if signed else np.abs(ratio - 1), sem, np.minimum(data.num_samples, latent.num_samples))


class Normalisation(NamedTuple):
    """z' = scale (z - shift), shift like one z."""

    shift: Tensor
    scale: float

    def __call__(self, z: Tensor) -> Tensor:
        return self.scale * (z - self.shift)

    def inverse(self, z: Tensor) -> Tensor:
        """z of z'."""
        return z / self.scale + self.shift


def normalisation(latents: Any) -> Normalisation:
    """The mean vector, and ONE number that makes the mean square of a coordinate 1: sqrt(d / E|z - mean|^2).

    Standardising each coordinate instead would change the geometry that encoders are judged by.

    Args:
        latents: `[n, ...]`.

    Example:
        >>> normalisation(torch.tensor([[0.0, 0.0], [2.0, 4.0]])).scale.__round__(6)
        0.632456
    """
    z = latents if isinstance(latents, Tensor) else torch.as_tensor(_checks.float_array("latents", latents))
    if z.ndim < 2 or len(z) < 2:
        raise ValueError(f"latents must have shape [n, ...] with n >= 2, got {tuple(z.shape)}.")
    if not torch.isfinite(z).all():
        raise ValueError("latents must be finite, got NaN or infinity.")
    shift = z.mean(dim=0)
    square = float(((z - shift).double() ** 2).mean())
    if not square > 0:
        raise ValueError("latents must differ, got the same vector throughout.")
    return Normalisation(shift, square**-0.5)


def snr_scale(data: Tensor, latents: Tensor) -> float:
    """By how much latents are larger than data: at scale^2 tau they have the data's total variance over noise at tau.

    Args:
        data, latents: `[n, ...]`.

    Example:
        >>> snr_scale(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0], [4.0]]))
        2.0
    """
    return (_variance("latents", latents) / _variance("data", data)) ** 0.5


def _variance(name: str, samples: Tensor) -> float:
    """E|x - E x|^2."""
    x = samples.detach().double()
    if x.ndim < 2 or len(x) < 2 or not (variance := float((x - x.mean(dim=0)).flatten(1).square().sum(1).mean())) > 0:
        raise ValueError(f"{name} must be different samples [n, ...] with n >= 2, got {tuple(samples.shape)}.")
    return variance


def serpentine(latents: Tensor, side: int) -> Tensor:
    """Vectors `[n, side^2]` as images `[n, 1, side, side]`, every other row from right to left.

    Example:
        >>> serpentine(torch.arange(4.0)[None], 2).tolist()
        [[[[0.0, 1.0], [3.0, 2.0]]]]
    """
    side = _checks.integer("side", side, 1)
    if latents.ndim != 2 or latents.shape[1] != side**2:
        raise ValueError(f"latents must have shape [n, {side**2}], got {tuple(latents.shape)}.")
    image = latents.reshape(-1, 1, side, side).clone()
    image[:, :, 1::2] = image[:, :, 1::2].flip(-1)
    return image
