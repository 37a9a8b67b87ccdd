"""The loop from noise to latents: standard DDIM, the paper's released variant, or any scheduler of diffusers.

Whatever a network predicts, x0 and epsilon are affine in x and its output, so a step without clipping is

    x <- keep x + add output (+ spread noise),

two numbers a step, made in float64 beforehand and put on the device: nothing in the loop waits for the host.
"""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks

from ._double_steps import stepping
from ._extra import diffusers

_OF_THE_MODEL = {  # of a scheduler's settings
    "beta_end", "beta_schedule", "beta_start", "clip_sample", "clip_sample_range", "dynamic_thresholding_ratio",
    "num_train_timesteps", "prediction_type", "rescale_betas_zero_snr", "sample_max_value", "thresholding",
    "trained_betas",
}  # fmt: skip
_INFINITE = math.inf, -math.inf  # JSON has no such numbers
Predict = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Constants of a DDIM loop, one a step; a = sqrt(abar_t), s = sqrt(1 - abar_t).

    Attributes:
        times: what the network is told, int64.
        from_x, from_output: x0 = from_x[0] x + from_output[0] output; epsilon likewise with [1]; `[2, steps]`.
        signal, direction: the next x is signal x0 + direction epsilon (+ spread noise).
        spread: standard deviation of the noise.
        clip: x0 is clamped to [-clip, clip], if not None.
    """

    times: Tensor
    from_x: Tensor
    from_output: Tensor
    signal: Tensor
    direction: Tensor
    spread: Tensor
    clip: float | None

    def run(self, predict: Predict, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """From x `[batch, ...]` to latents; `noise` `[steps, batch, ...]` if there is any spread."""
        keep = self.signal * self.from_x[0] + self.direction * self.from_x[1]
        add = self.signal * self.from_output[0] + self.direction * self.from_output[1]
        for k in range(len(self.times)):
            output = predict(x, self.times[k])
            if self.clip is None:
                x = keep[k] * x + add[k] * output
            else:
                x0, epsilon = (self.from_x[i, k] * x + self.from_output[i, k] * output for i in range(2))
                x = self.signal[k] * x0.clamp(-self.clip, self.clip) + self.direction[k] * epsilon
            if noise is not None:
                x = x + self.spread[k] * noise[k]
        return x


def ddim(scheduler: Any, num_steps: int, eta: float = 0.0, *, released: bool = False, device: Any = "cpu") -> Schedule:
    """The schedule of standard DDIM (Song et al. 2021, equations 12 and 16), or of the paper's released script.

    The released loop goes to prev = max(1, t - T / num_steps), so that its last step does nothing, and has another eta:

        x <- sqrt(abar_prev) x0 + eta sqrt(1 - abar_prev) noise + sqrt(1 - eta^2) sqrt(1 - abar_prev) epsilon.

    Args:
        scheduler: any scheduler of diffusers with `alphas_cumprod`; times and kind of prediction are those of a
            DDIMScheduler of its configuration.
        num_steps: at most the steps of training.
        eta: in [0, 1].
        released: the variant.
        device: where the loop runs.

    Raises:
        ValueError: for schedulers without `alphas_cumprod`, with dynamic thresholding, or for too many steps.

    Example:
        Told the noise, the loop returns the datum, here 3.

        >>> from diffusers import DDIMScheduler
        >>> scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
        >>> a = scheduler.alphas_cumprod.double()
        >>> schedule, z = ddim(scheduler, 10), torch.tensor([[0.7]], dtype=torch.float64)
        >>> schedule.times.tolist()
        [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
        >>> schedule.run(lambda x, t: (x - a[t].sqrt() * 3) / (1 - a[t]).sqrt(), z).round(decimals=9).tolist()
        [[3.0]]
    """
    config = getattr(scheduler, "config", {})
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(
            f"scheduler must have alphas_cumprod for DDIM, got {type(scheduler).__name__}. Name that class instead."
        )
    scheduler = diffusers().DDIMScheduler.from_config(_carried(config))
    if scheduler.config.thresholding:
        raise ValueError('scheduler must not threshold for DDIM, got thresholding=True. Use "DDIMScheduler".')
    length = scheduler.config.num_train_timesteps
    _checks.integer("num_steps", num_steps, 1, length)
    scheduler.set_timesteps(num_steps)
    times = scheduler.timesteps
    if int(times.max()) >= length:
        raise ValueError(f"num_steps must leave all times below {length}, got {num_steps} and {int(times.max())}.")
    cumulative = scheduler.alphas_cumprod.double()
    previous = times - length // num_steps
    now = cumulative[times]
    if released:
        then = cumulative[previous.clamp(min=1)]
        spread = eta * (1 - then).sqrt()
        direction = (1 - eta**2) ** 0.5 * (1 - then).sqrt()
    else:
        then = torch.where(previous >= 0, cumulative[previous.clamp(min=0)], scheduler.final_alpha_cumprod.double())
        spread = eta * ((1 - then) / (1 - now) * (1 - now / then)).clamp(min=0).sqrt()
        direction = (1 - then - spread**2).clamp(min=0).sqrt()
    from_x, from_output = _prediction(scheduler.config.prediction_type, now.sqrt(), (1 - now).sqrt())
    parts = [part.to(device) for part in (times, from_x, from_output, then.sqrt(), direction, spread)]
    return Schedule(*parts, clip=scheduler.config.clip_sample_range if scheduler.config.clip_sample else None)


def _prediction(kind: str, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of x and of the output in (x0, epsilon), for x = a x0 + s epsilon."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    table = {
        "epsilon": ([1 / a, zero], [-s / a, one]),
        "v_prediction": ([a, s], [-s, a]),
        "sample": ([zero, 1 / s], [one, -a / s]),
    }
    if kind not in table:
        raise ValueError(f"scheduler must predict {', '.join(table)}, got prediction_type {kind!r}.")
    from_x, from_output = table[kind]
    return torch.stack(from_x), torch.stack(from_output)


class Captured:
    """A loop over CUDA tensors as one graph: captured at its first call, replayed from then on with the same shapes."""

    def __init__(self, function: Callable[..., Tensor]):
        self.function, self.graph = function, None

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self.graph is None:
            self.inputs = [each.clone() for each in inputs]
            stream = torch.cuda.Stream()  # libraries make their workspaces, and compilers compile, before the capture
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.function(*self.inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = self.function(*self.inputs)
        for kept, new in zip(self.inputs, inputs, strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.output.clone()


def own_steps(
    scheduler: Any, num_steps: int, predict: Predict, x: Tensor, eta: float, generators: Sequence[torch.Generator]
) -> Tensor:
    """The loop through a scheduler's own step(), with one generator a point where it draws random numbers."""
    scheduler = stepping(scheduler, x.dtype)
    scheduler.set_timesteps(num_steps, device=x.device)
    accepted = inspect.signature(scheduler.step).parameters
    more = {"eta": eta, "generator": list(generators)}
    more = {name: value for name, value in more.items() if name in accepted}
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(predict(scaled, t), t, x, **more).prev_sample
    return x


def scheduler_of(description: str | dict[str, Any], trained: Any) -> Any:
    """A scheduler of diffusers by name, with the model's configuration, or by class name and configuration.

    Args:
        description: of it.
        trained: the model's own scheduler.

    Raises:
        ValueError: for a name that diffusers does not have, or a scheduler for models of another kind.
    """
    own = isinstance(description, dict)
    name = description["_class_name"] if own else description
    found = getattr(diffusers(), name, None) if name.endswith("Scheduler") else None
    if found is None:
        raise ValueError(
            f"scheduler must be ddim, released, or the name of a scheduler of diffusers, such as "
            f"EulerDiscreteScheduler, got {name!r}."
        )
    try:
        scheduler = found.from_config(_finite_or_not(description) if own else _carried(trained.config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"scheduler must be made of the model's configuration, got {name}: {error}.") from None
    kinds = _kind(trained), _kind(scheduler)
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"scheduler must be for what the model was trained on, {kinds[0]}, got {name} for {kinds[1]}: "
            "its images would be wrong."
        )
    # A configuration of one's own may change the noise levels on purpose; a name only says how to step between them.
    if not own and not _same(getattr(trained, "alphas_cumprod", None), getattr(scheduler, "alphas_cumprod", None)):
        raise ValueError(f"scheduler must keep the model's noise levels, got {name}, which makes its own.")
    return steppable(scheduler)


def _carried(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration for another class: of what its file left unsaid, which diffusers takes from that class, the noise
    and the clipping stay those that the model has.
    """
    return {"clip_sample": False} | dict(config) | {"_use_default_values": _unsaid(config)}


def _unsaid(config: Mapping[str, Any]) -> list[str]:
    """What another class of scheduler would take from its own defaults."""
    return sorted(set(config.get("_use_default_values", ())) - _OF_THE_MODEL)


def defaults_of(scheduler: Any) -> dict[str, list[str]]:
    """For the identity of what another class of scheduler may be made of."""
    names = _unsaid(getattr(scheduler, "config", {}))
    return {"scheduler's defaults": names} if names else {}


def _same(before: Tensor | None, after: Tensor | None) -> bool:
    """Noise levels, but for what a schedule of no signal at its end is rounded to."""
    if before is None or after is None:
        return True
    return before.shape == after.shape and torch.allclose(before.double(), after.double(), rtol=0, atol=1e-5)


def steppable(scheduler: Any) -> Any:
    """The scheduler, if it goes from noise to images by ``step(output, time, x)``."""
    name, parameters = type(scheduler).__name__, inspect.signature(scheduler.step).parameters
    needed = [each for each, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if needed != ["model_output", "timestep", "sample"]:
        raise ValueError(f"scheduler must step from model_output, timestep and sample, got {name}, with {needed}.")
    if "Inverse" in name:
        raise ValueError(f"scheduler must go from noise to images, got {name}, which goes back.")
    return scheduler


def refuse_eta(scheduler: Any, eta: float) -> None:
    """An eta that a scheduler's step() would not see."""
    if eta and "eta" not in inspect.signature(scheduler.step).parameters:
        raise ValueError(f"eta must be 0 for {type(scheduler).__name__}, which takes none, got {eta}.")


def _kind(scheduler: Any) -> str:
    """The noise that a scheduler takes away, and the prediction that it takes for it."""
    name, config = type(scheduler).__name__, scheduler.config
    prediction = config.get("prediction_type")
    if name.startswith("FlowMatch") or config.get("use_flow_sigmas") or str(prediction).startswith("flow"):
        return "flow matching"
    if name.startswith("EDM"):
        return f"EDM's preconditioned noise predicting {prediction}"
    if getattr(scheduler, "alphas_cumprod", None) is None:
        return f"the noise of {name}"
    return f"noise that preserves the variance predicting {prediction}"


def _finite_or_not(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: float(value) if value in map(str, _INFINITE) else value for key, value in fields.items()}


def configuration(scheduler: Any) -> dict[str, Any]:
    """Class and configuration of a scheduler of diffusers, as JSON holds them."""
    fields = {key: value for key, value in dict(scheduler.config).items() if not key.startswith("_")}
    fields = {key: str(value) if value in _INFINITE else value for key, value in fields.items()}
    return json.loads(json.dumps(fields | {"_class_name": type(scheduler).__name__}, default=np.ndarray.tolist))
