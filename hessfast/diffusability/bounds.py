"""What Fisher information latents can have if their encoder stretches by no less and no more than given."""

from typing import Any, NamedTuple

import numpy as np

from hessfast import _checks

from .curves import FisherCurve, levels_of


class Bounds(NamedTuple):
    """Least and greatest value at each tau, `[len(tau)]`."""

    lower: np.ndarray
    upper: np.ndarray


def fisher_information_bounds(
    data: FisherCurve, tau: Any, shrinks: float, stretches: float, *, latent_dim: int | None = None
) -> Bounds:
    """Bounds on FI of latents z = E(x), shrinks |x - x'| <= |E(x) - E(x')| <= stretches |x - x'|, E linear.

    In D dimensions, with l and L for the two,

        L^-2 FI_x(tau / l^2) <= FI_z(tau) <= l^-2 FI_x(tau / L^2),

    and (d - D) / tau more in d > D dimensions. At tau itself in place of tau / l^2 and tau / L^2 it would be false, of
    z = 2 x for one. The paper's Proposition 3.1 is about bi-Lipschitz encoders; an encoder that bends keeps lengths
    along the data (l = L = 1) and changes FI, so that beyond linear ones this is a yardstick. A linear encoder that
    loses directions (d < D) has l = 0 and no upper bound.

    Args:
        data: FI of the data, interpolated as a power law between its tau.
        tau: of the latents' noise, a number or `[t]`; tau / l^2 and tau / L^2 must be within the data's.
        shrinks, stretches: l and L, least and greatest singular value of E.
        latent_dim: d; None: D.

    Raises:
        ValueError: for tau beyond the data's, l > L, d < D.
        TypeError: for what is no `FisherCurve`.

    References:
        arXiv:2604.02751, Proposition 3.1.

    Example:
        X ~ N(0, 1), FI = 1 / (1 + tau), and z = 2 x: both bounds are 1 / (4 + tau).

        >>> from hessfast.diffusability import fisher_curve, from_denoiser
        >>> import torch
        >>> curve = fisher_curve(from_denoiser(lambda y, tau: y / (1 + tau)), torch.randn(64, 1), [0.25, 1.0])
        >>> bounds = fisher_information_bounds(curve, 4.0, 2.0, 2.0)
        >>> bounds.lower.round(6).tolist(), bounds.upper.round(6).tolist()
        ([0.125], [0.125])
    """
    if not isinstance(data, FisherCurve):
        raise TypeError(f"data must be a FisherCurve, got {type(data).__name__}. See fisher_curve.")
    levels, low, high = levels_of(tau), _checks.positive("shrinks", shrinks), _checks.positive("stretches", stretches)
    if low > high:
        raise ValueError(f"shrinks must be <= stretches, got {low:g} and {high:g}.")
    d = data.dim if latent_dim is None else _checks.integer("latent_dim", latent_dim, data.dim)
    first, last = levels[0] / high**2, levels[-1] / low**2
    if first < data.tau[0] * (1 - 1e-9) or last > data.tau[-1] * (1 + 1e-9):
        raise ValueError(
            f"tau must need data from {data.tau[0]:.3g} to {data.tau[-1]:.3g}, got {first:.3g} to {last:.3g}. Measure "
            "the data there."
        )
    information, added = data.fisher_information.mean, (d - data.dim) / levels

    def at(tau: np.ndarray) -> np.ndarray:
        return np.exp(np.interp(np.log(tau), np.log(data.tau), np.log(information)))

    return Bounds(at(levels / low**2) / high**2 + added, at(levels / high**2) / low**2 + added)
