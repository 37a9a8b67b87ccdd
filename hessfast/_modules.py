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
_NO_CODE = (lambda: None).__code__


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


def _networks(value: Any, depth: int = 6, names: frozenset[str] | None = None) -> Iterator[nn.Module]:
    """The networks that a call may ask: what is called, or what its closure, arguments and attributes refer to.

    Args:
        names: that the code mentions; of an object with several networks only those so named are asked.
    """
    if depth == 0 or isinstance(value, type | ModuleType | Tensor):
        return
    if isinstance(value, functools.partial):
        inner = (value.func, *value.args, *value.keywords.values())
    elif inspect.ismethod(value):
        inner, names = (value.__self__,), _mentioned(value)
    elif inspect.isfunction(value):
        if value.__module__.partition(".")[0] in _LIBRARIES:
            return
        try:
            found = inspect.getclosurevars(value)
        except ValueError:  # a variable that has no value yet
            return
        inner, names = (*found.nonlocals.values(), *found.globals.values()), _mentioned(value)
    elif isinstance(value, dict):
        inner = tuple(value.values())
    elif isinstance(value, list | tuple):
        inner = tuple(value)
    else:
        inner = tuple(_attributes(value, names))
        if isinstance(value, nn.Module) and (names is None or not inner):
            yield value
            return
    for each in inner[:_MOST]:
        yield from _networks(each, depth - 1, names)


def _mentioned(function: Any) -> frozenset[str]:
    return frozenset(getattr(function, "__code__", _NO_CODE).co_names)


def _attributes(value: Any, names: frozenset[str] | None) -> Iterator[Any]:
    """What an object holds, and the methods of its class: all it holds, or those of either that are named."""
    held = {**getattr(value, "__dict__", {}), **(value._modules if isinstance(value, nn.Module) else {})}
    if names is None:
        yield from held.values()
        return
    for name in sorted(names):
        if name in held:
            yield held[name]
        elif not isinstance(value, nn.Module) and inspect.isfunction(getattr(type(value), name, None)):
            yield getattr(value, name)
