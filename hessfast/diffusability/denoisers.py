"""Denoisers of many makes through one interface: D(y, tau) = E[X | Y = y] for Y = X + sqrt(tau) Z, tau a VARIANCE."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from hessfast import _checks
from hessfast._modules import dtype_of, refuse_training, uncompiled

from ._conditions import Conditional
from ._predictions import Coefficients, flow_time, of_edm, of_flow, of_sample, of_score
from ._schedulers import preconditioning


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
    return Denoiser(function, of_sample, tau_range, function)


def from_score(function: Callable[[Tensor, float], Tensor], tau_range: tuple[float, float] | None = None) -> Denoiser:
    """Any ``function(y, tau) -> grad log p_tau(y)``; of one density, not guided by a classifier.

    Example:
        >>> from_score(lambda y, tau: -y / (1 + tau))(torch.ones(1, 1), 3.0).tolist()
        [[0.25]]
    """
    return Denoiser(function, of_score, tau_range, function)


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

    return Denoiser(predict, lambda tau: of_edm(tau, variance), tau_range, network)


def from_diffusers(model: Any, scheduler: Any, **conditions: Any) -> Denoiser:
    """A diffusers model, e.g. UNet2DModel, with the noise schedule and the kind of prediction of its scheduler.

    Variance preserving: tau = (1 - a) / a for the scheduler's cumulative product a; the time of a tau between two steps
    is interpolated in ln tau. Flow matching: tau = (s / (1 - s))^2 at the time s times `num_train_timesteps`, whatever
    the `shift`. EDM: tau = sigma^2, by the scheduler's own preconditioning. For other schedulers give the network to
    `from_edm_raw`, `from_flow` or `from_score`.

    Args:
        model: ``model(x, time, **conditions)`` or its `.sample`, time `[batch]` in float32 or wider; a module with an
            argument `timestep`, as transformers have, gets the time by that name. If its pipeline asks it otherwise, as
            Flux's for time / 1000, wrap it in a function that does.
        scheduler: has `alphas_cumprod` and `config.prediction_type` "epsilon", "v_prediction" or "sample"; or is a
            FlowMatch...Scheduler, whose model predicts noise - x, or one of "flow_prediction" with `use_flow_sigmas`,
            as UniPC's and DPM's; or an EDM...Scheduler of "epsilon" or "v_prediction". `tau_range` is that of the steps
            of the training, of FlowMatch and EDM that of the steps as they are set now.
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
    preconditioned = preconditioning(scheduler)
    by_name = _takes_timestep(model)

    def ask(y: Tensor, tau: float, conditions: dict[str, Any]) -> Tensor:
        wide = torch.promote_types(y.dtype, torch.float32)  # bfloat16 has no 999
        time = y.new_full((len(y),), preconditioned.time(tau), dtype=wide)
        given, named = ((), {"timestep": time}) if by_name else ((time,), {})
        try:
            output = model(preconditioned.scale(tau) * y, *given, **named, **conditions)
        except RuntimeError as error:
            if "'indices'" not in str(error):
                raise
            raise TypeError(
                "model must not look up numbers that are no integers: times lie between its steps. Wrap it in a "
                "function that rounds them and ask for tau of its steps; give labels as integers."
            ) from error
        return getattr(output, "sample", output)

    return Denoiser(Conditional(ask, conditions), preconditioned.coefficients, preconditioned.tau_range, model)


def _takes_timestep(model: Any) -> bool:
    """Whether it is a module with an argument of that name; one that is traced does not tell."""
    with contextlib.suppress(ValueError, TypeError):
        return isinstance(model, torch.nn.Module) and "timestep" in signature(uncompiled(model).forward).parameters
    return False


def from_flow(network: Callable[[Tensor, Tensor], Tensor], tau_range: tuple[float, float] | None = None) -> Denoiser:
    """A rectified flow: velocity z - x at x_t = (1 - t) x + t z, ``network(x_t, t)`` with t `[batch]` in (0, 1).

    tau = (t / (1 - t))^2 and y = x_t / (1 - t).

    Example:
        >>> to_zero = from_flow(lambda x, t: x / t[:, None])  # all data are 0: x_t = t z
        >>> to_zero(torch.ones(1, 2), 3.0).abs().max() < 1e-6
        tensor(True)
    """

    def predict(y: Tensor, tau: float) -> Tensor:
        t = flow_time(tau)
        return network((1 - t) * y, y.new_full((len(y),), t))

    return Denoiser(predict, of_flow, tau_range, network)
