"""Networks among what is called: their weights, and whether they are in evaluation mode."""

import functools
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

_LIBRARIES = "torch", "numpy", "scipy", "diffusers", "transformers"  # whose functions refer to no network of a user
_MOST = 100  # of what one thing refers to


def weight_of(function: Any) -> Tensor | None:
    """A floating point weight or buffer, which tells dtype and device, of a network or of one that a method is of."""
    network = _itself(function)
    weights = () if network is None else (*network.parameters(), *network.buffers())
    return next((x for x in weights if x.is_floating_point()), None)


def dtype_of(function: Any) -> torch.dtype | None:
    """That of the weights, if there are any."""
    weight = weight_of(function)
    return None if weight is None else weight.dtype


def refuse_training(name: str, *functions: Any) -> None:
    """Layers that mix samples of a batch, or draw numbers, in training."""
    for function in functions:
        for network in _networks(function):
            for part in network.modules():
                mixing = isinstance(part, nn.modules.batchnorm._BatchNorm)
                drawing = isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0
                if part.training and (mixing or drawing):
                    raise ValueError(f"{name} must be in evaluation mode, got {type(part).__name__}; call its .eval().")


def _itself(function: Any) -> nn.Module | None:
    if isinstance(function, functools.partial):
        return _itself(function.func)
    function = getattr(function, "__self__", function)
    return function if isinstance(function, nn.Module) else None


def _networks(value: Any, depth: int = 3) -> Iterator[nn.Module]:
    """The network itself, or those that what is called refers to: by its closure, arguments or attributes."""
    if isinstance(value, nn.Module):
        yield value
        return
    if depth == 0 or isinstance(value, type | ModuleType | Tensor):
        return
    if isinstance(value, functools.partial):
        inner = (value.func, *value.args, *value.keywords.values())
    elif inspect.ismethod(value):
        inner = (value.__self__,)
    elif inspect.isfunction(value):
        if value.__module__.partition(".")[0] in _LIBRARIES:
            return
        try:
            names = inspect.getclosurevars(value)
        except ValueError:  # a variable that has no value yet
            return
        inner = (*names.nonlocals.values(), *names.globals.values())
    elif isinstance(value, dict):
        inner = tuple(value.values())
    elif isinstance(value, list | tuple):
        inner = tuple(value)
    else:
        inner = tuple(getattr(value, "__dict__", {}).values())
    for each in inner[:_MOST]:
        yield from _networks(each, depth - 1)
