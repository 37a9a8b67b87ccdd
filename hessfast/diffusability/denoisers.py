"""Denoisers of many makes through one interface: D(y, tau) = E[X | Y = y] for Y = X + sqrt(tau) Z, tau a VARIANCE.

Whatever a network predicts, F, the denoiser and the score are affine in it,

    D = skip y + out F,    s = (D - y) / tau = slope y + (out / tau) F,    slope = (skip - 1) / tau,

with numbers that depend on tau alone. Kept apart they lose no digits: s at small tau and Jac D at large tau are small
differences of large terms when computed from each other.
"""

import contextlib
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks
from hessfast._modules import dtype_of, refuse_training, uncompiled


class Coefficients(NamedTuple):
    """skip, out and slope at a tau."""

    skip: Any
    out: Any
    slope: Any


@dataclass(frozen=True, eq=False)
class Denoiser:
    """What a network predicts, and how the denoiser is made of it.

    Attributes:
        predict: F(y, tau) for y `[batch, ...]` and tau a float; like y.
        coefficients: skip, out and slope at a tau.
        tau_range: least and greatest tau it is good for, if that is known.
        network: what `predict` asks, if it is not all there is: looked at for layers in training, and for the dtype
            that samples are brought to.
    """

    predict: Callable[[Tensor, float], Tensor]
    coefficients: Callable[[float], Coefficients]
    tau_range: tuple[float, float] | None = None
    network: Any = None

    def __call__(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y], like y."""
        skip, out, _ = self.coefficients(tau)
        return skip * y + out * self.predict(y, tau)

    def score(self, y: Tensor, tau: float) -> Tensor:
        """grad log p_tau(y), like y."""
        _, out, slope = self.coefficients(tau)
        return slope * y + out / tau * self.predict(y, tau)

    def for_rows(self, samples: Tensor, rows: Tensor) -> "Denoiser":
        """The denoiser of noisy versions of samples[rows]: itself, unless it has a condition for each sample, or leaves
        out the data that they are.
        """
        if isinstance(self.predict, Conditional):
            return replace(self, predict=self.predict.for_rows(len(samples), rows))
        return self

    def brought(self, samples: Tensor) -> Tensor:
        """Samples in the dtype of the network's weights; refused while it has layers in training."""
        refuse_training("denoiser", self.predict, self.network)
        dtype = dtype_of(self.network)
        return samples if dtype is None else samples.to(dtype)


def checked(denoiser: Any) -> Denoiser:
    """A `Denoiser`, or a sentence on how to make one."""
    if not isinstance(denoiser, Denoiser):
        kind = "a network" if isinstance(denoiser, torch.nn.Module) else type(denoiser).__name__
        raise TypeError(
            f"denoiser must be a Denoiser, got {kind}. Wrap it, by what it predicts, with from_denoiser, from_score, "
            "from_edm, from_edm_raw, from_flow, from_diffusers or from_density."
        )
    return denoiser


def from_denoiser(
    function: Callable[[Tensor, float], Tensor], tau_range: tuple[float, float] | None = None
) -> Denoiser:
    """Any ``function(y, tau) -> E[X | Y = y]``.

    Example:
        >>> shrink = from_denoiser(lambda y, tau: y / (1 + tau))  # X ~ N(0, 1)
        >>> shrink.score(torch.ones(1, 1), 3.0).tolist()
        [[-0.25]]
    """
    return Denoiser(function, lambda tau: Coefficients(0.0, 1.0, -1 / tau), tau_range, function)


def from_score(function: Callable[[Tensor, float], Tensor], tau_range: tuple[float, float] | None = None) -> Denoiser:
    """Any ``function(y, tau) -> grad log p_tau(y)``; of one density, not guided by a classifier.

    Example:
        >>> from_score(lambda y, tau: -y / (1 + tau))(torch.ones(1, 1), 3.0).tolist()
        [[0.25]]
    """
    return Denoiser(function, lambda tau: Coefficients(1.0, tau, 0.0), tau_range, function)


def from_edm(denoise: Callable[[Tensor, Tensor], Tensor], tau_range: tuple[float, float] | None = None) -> Denoiser:
    """A preconditioned network of Karras et al. (2022), ``denoise(y, sigma) -> E[X | Y = y]`` with sigma `[batch]`.

    Of the raw network inside it, `from_edm_raw` loses no digits at small tau.

    Example:
        >>> shrink = from_edm(lambda y, sigma: y / (1 + sigma[:, None] ** 2))  # X ~ N(0, 1)
        >>> shrink.score(torch.ones(1, 1), 3.0).tolist()
        [[-0.25]]
    """
    inner = from_denoiser(lambda y, tau: denoise(y, y.new_full((len(y),), math.sqrt(tau))), tau_range)
    return replace(inner, network=denoise)


def from_edm_raw(
    network: Callable[[Tensor, Tensor], Tensor], sigma_data: float = 0.5, tau_range: tuple[float, float] | None = None
) -> Denoiser:
    """The raw network F(c_in y, c_noise) of Karras et al. (2022), c_noise = ln(sigma) / 4 as `[batch]`.

    Example:
        >>> linear = from_edm_raw(lambda y, c_noise: 0 * y, sigma_data=1.0)  # exact for X ~ N(0, 1)
        >>> linear.score(torch.ones(1, 1), 3.0).tolist()
        [[-0.25]]
    """
    variance = _checks.positive("sigma_data", sigma_data) ** 2

    def predict(y: Tensor, tau: float) -> Tensor:
        c_noise = y.new_full((len(y),), math.log(tau) / 8)
        return network(y / math.sqrt(tau + variance), c_noise)

    return Denoiser(predict, lambda tau: edm_coefficients(tau, variance), tau_range, network)


def edm_coefficients(tau: Any, variance: float) -> Coefficients:
    """c_skip and c_out of data of that variance, and slope; of a number or a tensor of tau."""
    total = tau + variance
    return Coefficients(variance / total, (tau * variance / total) ** 0.5, -1 / total)


def from_diffusers(model: Any, scheduler: Any, **conditions: Any) -> Denoiser:
    """A diffusers model, e.g. UNet2DModel, with the noise schedule and the kind of prediction of its scheduler.

    Variance preserving: tau = (1 - a) / a for the scheduler's cumulative product a; the time of a tau between two steps
    is interpolated in ln tau. Flow matching: tau = (s / (1 - s))^2 at the time s times `num_train_timesteps`, whatever
    the `shift`. EDM: tau = sigma^2, by the scheduler's own preconditioning. For other schedulers give the network to
    `from_edm_raw`, `from_flow` or `from_score`.

    Args:
        model: ``model(x, time, **conditions)`` or its `.sample`; a module with an argument `timestep`, as transformers
            have, gets the time by that name. If its pipeline asks it otherwise, as Flux's for time / 1000, wrap it in a
            function that does.
        scheduler: has `alphas_cumprod` and `config.prediction_type` "epsilon", "v_prediction" or "sample"; or is a
            FlowMatch...Scheduler, whose model predicts noise - x; or an EDM...Scheduler of "epsilon" or "v_prediction".
            `tau_range` is that of its steps as they are set now.
        conditions: passed on, one of each kind for all samples: a label, or a tensor whose first axis has length 1, as
            ``encoder_hidden_states`` of one text; or one for each sample of `fisher_curve`, in their order, whose
            curves are then means over them. A guided prediction is no score of a density.

    Example:
        A network that predicts zero noise returns y itself.

        >>> from diffusers import DDIMScheduler
        >>> blind = from_diffusers(lambda x, time: 0 * x, DDIMScheduler())
        >>> blind(torch.ones(1, 2), 3.0).tolist()
        [[1.0, 1.0]]
    """
    asked = _asked_by(scheduler)
    by_name = _takes_timestep(model)

    def ask(y: Tensor, tau: float, conditions: dict[str, Any]) -> Tensor:
        time = y.new_full((len(y),), asked.time(tau))
        given, named = ((), {"timestep": time}) if by_name else ((time,), {})
        try:
            output = model(asked.scale(tau) * y, *given, **named, **conditions)
        except RuntimeError as error:
            if "'indices'" not in str(error):
                raise
            raise TypeError(
                "model must not look up numbers that are no integers: times lie between its steps. Wrap it in a "
                "function that rounds them and ask for tau of its steps; give labels as integers."
            ) from error
        return getattr(output, "sample", output)

    return Denoiser(Conditional(ask, conditions), asked.coefficients, asked.tau_range, model)


def _takes_timestep(model: Any) -> bool:
    """Whether it is a module with an argument of that name; one that is traced does not tell."""
    with contextlib.suppress(ValueError, TypeError):
        return isinstance(model, torch.nn.Module) and "timestep" in signature(uncompiled(model).forward).parameters
    return False


class _Asked(NamedTuple):
    """How a scheduler asks its model at a tau, of scale y at a time, and what the answer means."""

    scale: Callable[[float], float]
    time: Callable[[float], float]
    coefficients: Callable[[float], Coefficients]
    tau_range: tuple[float, float] | None


def _asked_by(scheduler: Any) -> _Asked:
    kind = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    cumulative = getattr(scheduler, "alphas_cumprod", None)
    if cumulative is not None and kind in ("epsilon", "v_prediction", "sample"):
        log_tau = torch.log((1 - cumulative.double()) / cumulative.double()).cpu().numpy()
        return _Asked(
            lambda tau: 1 / math.sqrt(1 + tau),
            lambda tau: float(np.interp(math.log(tau), log_tau, np.arange(len(log_tau)))),
            _variance_preserving(kind),
            (math.exp(log_tau[0]), math.exp(log_tau[-1])),
        )
    if hasattr(scheduler, "precondition_outputs") and kind in ("epsilon", "v_prediction"):
        variance = scheduler.config.sigma_data**2

        def coefficients(tau: float) -> Coefficients:
            skip, out, slope = edm_coefficients(tau, variance)
            return Coefficients(skip, out if kind == "epsilon" else -out, slope)

        return _Asked(
            lambda tau: 1 / math.sqrt(tau + variance),
            lambda tau: float(scheduler.precondition_noise(torch.tensor(tau, dtype=torch.float64).sqrt())),
            coefficients,
            _ends(scheduler.sigmas.double() ** 2),
        )
    # By name: others of diffusers with the same methods count their times backwards.
    flow = any(each.__name__.startswith("FlowMatch") for each in type(scheduler).__mro__)
    if flow and not getattr(scheduler.config, "invert_sigmas", False):
        last = scheduler.config.num_train_timesteps
        return _Asked(
            lambda tau: 1 - _flow_time(tau),
            lambda tau: last * _flow_time(tau),
            _of_flow,
            _ends((scheduler.sigmas.double() / (1 - scheduler.sigmas.double())) ** 2),
        )
    raise ValueError(
        "scheduler must have alphas_cumprod and predict epsilon, v or the sample, or be of flow matching or EDM, "
        f"got {type(scheduler).__name__} with prediction_type {kind!r}."
    )


def _ends(tau: Tensor) -> tuple[float, float] | None:
    """Least and greatest of those that are neither 0 nor infinite, if there are any."""
    tau = tau[(tau > 0) & tau.isfinite()]
    return (float(tau.min()), float(tau.max())) if len(tau) else None


@dataclass(frozen=True, eq=False)
class Conditional:
    """The `predict` of a denoiser with conditions, of all samples or of each, that `ask` takes beside y and tau."""

    ask: Callable[[Tensor, float, dict[str, Any]], Tensor]
    conditions: dict[str, Any]

    def __call__(self, y: Tensor, tau: float) -> Tensor:
        def spread(value: Tensor) -> Tensor:
            return value.to(y.device).expand(len(y), *value.shape[1:])

        return self.ask(y, tau, _each(self.conditions, len(y), spread))

    def for_rows(self, num: int, rows: Tensor) -> "Conditional":
        """With the conditions of some of `num` samples."""

        def chosen(value: Tensor) -> Tensor:
            return value if len(value) == 1 else value[rows.to(value.device)]

        return replace(self, conditions=_each(self.conditions, num, chosen))


def _each(value: Any, num: int, change: Callable[[Tensor], Tensor], name: str = "condition") -> Any:
    """Conditions in dicts and lists, one for all or one for each of `num`, changed one by one; numbers are labels."""
    if isinstance(value, dict):
        return {key: _each(part, num, change, key) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(part, num, change, name) for part in value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        value = torch.tensor([int(value)])
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if not isinstance(value, Tensor):
        return value
    value = value.clone() if value.is_inference() else value  # of which a graph cannot be kept
    if value.ndim < 1 or len(value) not in (1, num):
        raise ValueError(
            f"{name} must be one condition for all samples, of shape [1, ...], or one for each of {num}, "
            f"got {tuple(value.shape)}."
        )
    return change(value)


def _variance_preserving(kind: str) -> Callable[[float], Coefficients]:
    """x_t = a y, a^2 = 1 / (1 + tau): x = y - sqrt(tau) eps = a x_t - sqrt(1 - a^2) v."""
    if kind == "epsilon":
        return lambda tau: Coefficients(1.0, -math.sqrt(tau), 0.0)
    if kind == "v_prediction":
        return lambda tau: Coefficients(1 / (1 + tau), -math.sqrt(tau / (1 + tau)), -1 / (1 + tau))
    return lambda tau: Coefficients(0.0, 1.0, -1 / tau)


def from_flow(network: Callable[[Tensor, Tensor], Tensor], tau_range: tuple[float, float] | None = None) -> Denoiser:
    """A rectified flow: velocity z - x at x_t = (1 - t) x + t z, ``network(x_t, t)`` with t `[batch]` in (0, 1).

    tau = (t / (1 - t))^2 and y = x_t / (1 - t).

    Example:
        >>> to_zero = from_flow(lambda x, t: x / t[:, None])  # all data are 0: x_t = t z
        >>> to_zero(torch.ones(1, 2), 3.0).abs().max() < 1e-6
        tensor(True)
    """

    def predict(y: Tensor, tau: float) -> Tensor:
        t = _flow_time(tau)
        return network((1 - t) * y, y.new_full((len(y),), t))

    return Denoiser(predict, _of_flow, tau_range, network)


def _flow_time(tau: float) -> float:
    return math.sqrt(tau) / (1 + math.sqrt(tau))


def _of_flow(tau: float) -> Coefficients:
    """x = x_t - t v, x_t = (1 - t) y."""
    t = _flow_time(tau)
    return Coefficients(1 - t, -t, -t / tau)
