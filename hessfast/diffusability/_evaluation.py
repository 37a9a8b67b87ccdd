"""Networks among what is called: they must be in evaluation mode, and take numbers of their weights' dtype."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from hessfast import _checks


def refuse_training(name: str, *functions: Any) -> None:
    """Layers that mix samples of a batch, or draw numbers, in training."""
    for function in functions:
        for network in _networks(function):
            for part in network.modules():
                mixing = isinstance(part, nn.modules.batchnorm._BatchNorm)
                drawing = isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0
                if part.training and (mixing or drawing):
                    raise ValueError(f"{name} must be in evaluation mode, got {type(part).__name__}; call its .eval().")


def dtype_of(function: Any) -> torch.dtype | None:
    """That of the weights, if `function` is a network, or a method of one."""
    network = _itself(function)
    weights = () if network is None else (*network.parameters(), *network.buffers())
    return next((x.dtype for x in weights if x.is_floating_point()), None)


def _itself(function: Any) -> nn.Module | None:
    if isinstance(function, functools.partial):
        return _itself(function.func)
    function = getattr(function, "__self__", function)
    return function if isinstance(function, nn.Module) else None


def _networks(function: Any) -> Iterator[nn.Module]:
    """The network itself, those that an object has as attributes, or those that a function or lambda refers to."""
    if (network := _itself(function)) is not None:
        yield network
        return
    function = function.func if isinstance(function, functools.partial) else function
    if inspect.isfunction(function):
        names = inspect.getclosurevars(function)
        found = (*names.nonlocals.values(), *names.globals.values())
    else:
        found = tuple(getattr(getattr(function, "__self__", function), "__dict__", {}).values())
    yield from (each for each in found if isinstance(each, nn.Module))


def of_dtype(name: str, call: Callable[[], Any], dtype: torch.dtype) -> Any:
    return _checks.of_dtype(call, f"{name} must have the dtype of samples, {dtype}", "Convert them.")
