"""What carries out a plan, z -> latents -> image: the interface, and any function behind it."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hessfast import _checks
from hessfast._dispatch import present
from hessfast._fingerprint import fingerprint
from hessfast._modules import refuse_training

from .plan import SlicePlan


@dataclass(frozen=True)
class Prepared:
    """A generator made ready for a plan: text encoded, constants on the device, networks in the plan's dtype.

    Attributes:
        latents: z `[batch, *latent]` and the points' ids -> latents `[batch, ...]`.
        decode: latents -> images `[batch, channels, rows, columns]`, in [-1, 1] or about.
        device: where both compute.
        latent_shape: of one point's latents, if it is known beforehand; otherwise a batch is made to see.
        warm_up: calls the network once, where the first call takes long or may fail as others do not.
    """

    latents: Callable[[Tensor, Sequence[int]], Tensor]
    decode: Callable[[Tensor], Tensor]
    device: torch.device
    latent_shape: tuple[int, ...] | None = None
    warm_up: Callable[[], None] | None = None


class Generator(ABC):
    """What a plan of a slice is carried out by.

    Attributes:
        identity: what decides the images, as JSON holds it; part of what a store is made of.
        device: where it computes.
        latent_shape: of one z, as the model was trained; None where that is not known.
        stepwise: whether it asks its network for each of a plan's steps.
    """

    identity: dict[str, Any]
    device: torch.device
    latent_shape: tuple[int, ...] | None = None
    stepwise: bool = True

    @abstractmethod
    def prepare(self, plan: SlicePlan) -> Prepared:
        """Ready for a plan; refused with a ValueError if the two do not fit."""

    def plain(self) -> "Generator":
        """The same without compilation and graphs, for derivatives."""
        return self


def known(generator: Any) -> Any:
    """The generator, if it is one."""
    if not callable(getattr(generator, "prepare", None)):
        raise TypeError(
            f"generator must be a Generator, got {generator!r:.80}. Use from_callable for a function, from_pipeline "
            "for a pipeline of diffusers."
        )
    return generator


class FunctionGenerator(Generator):
    """Any function of z, for a generator that is not diffusers'; see `from_callable`."""

    stepwise = False

    def __init__(
        self, function: Callable[[Tensor], Tensor], name: str, decode: Callable[[Tensor], Tensor] | None, device: Any
    ):
        self.identity, self.device = {"name": name}, torch.device(present(device))
        for what, given in (("function", function), ("decode", decode)):
            if isinstance(given, nn.Module):
                self.identity[what] = fingerprint(given)
            else:
                refuse_training(what, given)
        # Modules as they are now, whatever becomes of them.
        self.function, self.decode = (
            copy.deepcopy(given).eval().requires_grad_(False) if isinstance(given, nn.Module) else given
            for given in (function, decode)
        )

    def prepare(self, plan: SlicePlan) -> Prepared:
        dtype = getattr(torch, plan.dtype)
        function: Any
        decoded: Any
        function, decoded = (
            copy.deepcopy(given).to(self.device, dtype) if isinstance(given, nn.Module) else given
            for given in (self.function, self.decode)
        )

        def latents(z: Tensor, ids: Sequence[int]) -> Tensor:
            return _rows("function", function, z.to(self.device, dtype))

        def decode(x: Tensor) -> Tensor:
            return x if decoded is None else _rows("decode", decoded, x)

        return Prepared(latents, decode, self.device)


def from_callable(
    function: Callable[[Tensor], Tensor],
    name: str,
    *,
    decode: Callable[[Tensor], Tensor] | None = None,
    device: Any = "cpu",
) -> Generator:
    """Any ``function(z) -> latents`` with ``decode(latents) -> images``; latents are the images without `decode`.

    The result for a z must not depend on the others beside it, and both functions are called by several threads at a
    time on a CPU. Loop, prompt and guidance of a plan are not used. Modules are known by their weights, too, and run in
    evaluation mode and the plan's dtype; of functions the name alone is known.

    Args:
        function: z `[batch, *latent]` in the plan's dtype, on `device`.
        name: stands for the function in stores; another function must have another name.
        decode: images `[batch, channels, rows, columns]`.
        device: where both compute, "cpu", "cuda" or "cuda:N".

    Example:
        >>> generator = from_callable(lambda z: 2 * z, "doubled")
        >>> plan = SlicePlan([[[[1.0, 2.0]]], [[[3.0, 2.0]]]], [[0.5]], normalise=False)
        >>> generator.prepare(plan).latents(plan.z(plan.parameters), [0]).tolist()
        [[[[4.0, 4.0]]]]
    """
    for what, given in (("function", function), ("decode", decode or function)):
        if not callable(given):
            raise TypeError(f"{what} must be a function of tensors, got {given!r:.80}.")
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a text that stands for the function, got {name!r:.80}.")
    return FunctionGenerator(function, name, decode, device)


def _rows(name: str, function: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """What a function returns, a row for each of x."""
    remedy = "Pass a module itself, or choose that dtype for the plan, and as reference_dtype."
    value = _checks.of_dtype(lambda: function(x), f"{name} must take {x.dtype}", remedy)
    if not torch.is_tensor(value):
        raise TypeError(f"{name} must return a tensor, got {type(value).__name__}. Use torch.from_numpy for an array.")
    if value.ndim < 2 or len(value) != len(x):
        raise ValueError(f"{name} must return a row for each of {len(x)}, got shape {tuple(value.shape)}.")
    return value
