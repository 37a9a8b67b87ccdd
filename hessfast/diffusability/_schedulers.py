"""How schedulers of diffusers ask their models: of what multiple of y, at what time, and for what."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import _predictions
from ._predictions import Coefficients


class Preconditioning(NamedTuple):
    """At a tau the model is asked about scale y at a time, and its answer enters the denoiser with coefficients."""

    scale: Callable[[float], float]
    time: Callable[[float], float]
    coefficients: Callable[[float], Coefficients]
    tau_range: tuple[float, float] | None


def preconditioning(scheduler: Any) -> Preconditioning:
    """Of variance preserving schedulers, and those of EDM and of flow matching; any other is refused."""
    kind = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    if hasattr(scheduler, "alphas_cumprod") and kind in _VARIANCE_PRESERVING:
        return _variance_preserving(scheduler.alphas_cumprod.double().cpu(), _VARIANCE_PRESERVING[kind])
    if kind == "flow_prediction" and hasattr(scheduler.config, "flow_shift") and scheduler.config.use_flow_sigmas:
        last, shift = scheduler.config.num_train_timesteps, scheduler.config.flow_shift
        steps = torch.arange(1, last + 1, dtype=torch.float64) / last
        return _flow(last, shift * steps / (1 + (shift - 1) * steps))
    if hasattr(scheduler, "precondition_outputs") and kind in ("epsilon", "v_prediction"):
        return _edm(scheduler, 1 if kind == "epsilon" else -1)
    # By name: others of diffusers with the same methods count their times backwards.
    flow = any(each.__name__.startswith("FlowMatch") for each in type(scheduler).__mro__)
    if flow and not getattr(scheduler.config, "invert_sigmas", False):
        return _flow(scheduler.config.num_train_timesteps, scheduler.sigmas.double())
    raise ValueError(
        "scheduler must have alphas_cumprod and predict epsilon, v or the sample, or be of flow matching, flow sigmas "
        f"or EDM, got {type(scheduler).__name__} with prediction_type {kind!r}."
    )


_VARIANCE_PRESERVING = {
    "epsilon": _predictions.of_noise,
    "v_prediction": _predictions.of_v,
    "sample": _predictions.of_sample,
}


def _variance_preserving(cumulative: Tensor, coefficients: Callable[[float], Coefficients]) -> Preconditioning:
    log_tau = torch.log((1 - cumulative) / cumulative).numpy()
    return Preconditioning(
        scale=lambda tau: 1 / math.sqrt(1 + tau),
        time=lambda tau: float(np.interp(math.log(tau), log_tau, np.arange(len(log_tau)))),
        coefficients=coefficients,
        tau_range=(math.exp(log_tau[0]), math.exp(log_tau[-1])),
    )


def _edm(scheduler: Any, sign: int) -> Preconditioning:
    variance = scheduler.config.sigma_data**2

    def coefficients(tau: float) -> Coefficients:
        skip, out, slope = _predictions.of_edm(tau, variance)
        return Coefficients(skip, sign * out, slope)

    return Preconditioning(
        scale=lambda tau: 1 / math.sqrt(tau + variance),
        time=lambda tau: float(scheduler.precondition_noise(torch.tensor(tau, dtype=torch.float64).sqrt())),
        coefficients=coefficients,
        tau_range=_ends(scheduler.sigmas.double() ** 2),
    )


def _flow(last: int, sigma: Tensor) -> Preconditioning:
    sigma = sigma[sigma < 1 - 1e-9]  # where nothing is left of the sample
    return Preconditioning(
        scale=lambda tau: 1 - _predictions.flow_time(tau),
        time=lambda tau: last * _predictions.flow_time(tau),
        coefficients=_predictions.of_flow,
        tau_range=_ends((sigma / (1 - sigma)) ** 2),
    )


def _ends(tau: Tensor) -> tuple[float, float] | None:
    """Least and greatest of those that are not 0, if there are any."""
    tau = tau[tau > 0]
    return (float(tau.min()), float(tau.max())) if len(tau) else None
