"""The networks behind a function: their weights, and whether they are in evaluation mode."""

import contextlib
import copy
import dis
import functools
import inspect
import itertools
from collections.abc import Iterator
from types import CodeType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hessfast import _checks

_LIBRARIES = "torch", "numpy", "scipy", "diffusers", "transformers"  # whose functions refer to no network of a user
_MOST = 100  # of what one thing refers to
_LEAVES = (type, ModuleType, Tensor, np.ndarray, str, bytes, int, float, type(None))


def weight_of(function: Any) -> Tensor | None:
    """A floating point weight or buffer, which tells dtype and device, of a network or of one that a method is of."""
    network = _itself(function)
    weights = () if network is None else (*network.parameters(), *network.buffers())
    return next((x for x in weights if x.is_floating_point()), None)


def dtype_of(function: Any) -> torch.dtype | None:
    """That of the weights, if there are any."""
    weight = weight_of(function)
    return None if weight is None else weight.dtype


def in_double(potential: Any) -> Any:
    """A copy of a module in float64, and any other function itself."""
    potential = uncompiled(_checks.potential(potential))
    if not isinstance(potential, nn.Module):
        return potential
    try:
        return copy.deepcopy(potential).double()
    except RuntimeError as error:
        if "deepcopy" not in str(error):
            raise
        raise TypeError(
            f"potential must be a module that can be copied, got {type(potential).__name__}. If it has "
            "torch.nn.utils.weight_norm, use torch.nn.utils.parametrizations.weight_norm."
        ) from error


def uncompiled(function: Any) -> Any:
    """The module that torch.compile was given, whose derivatives are not limited to the first; others themselves."""
    return getattr(function, "_orig_mod", function) if isinstance(function, nn.Module) else function


def draws(network: nn.Module) -> bool:
    """Whether layers of it drop numbers at random while they are trained."""
    return any(
        _drops(part)
        or isinstance(part, nn.RReLU)
        or (isinstance(part, nn.MultiheadAttention | nn.RNNBase) and part.dropout > 0)
        for part in network.modules()
    )


def _drops(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0


def refuse_training(name: str, *functions: Any) -> None:
    """Layers that mix samples of a batch, or draw numbers, in training."""
    for function in functions:
        for network in _networks(function):
            for part in network.modules():
                mixing = isinstance(part, nn.modules.batchnorm._BatchNorm)
                if part.training and (mixing or _drops(part)):
                    raise ValueError(f"{name} must be in evaluation mode, got {type(part).__name__}; call its .eval().")


def _itself(function: Any) -> nn.Module | None:
    if isinstance(function, functools.partial):
        return _itself(function.func)
    function = getattr(function, "__self__", function)
    return function if isinstance(function, nn.Module) else None


def _networks(
    value: Any, names: frozenset[str] | None = None, depth: int = 6, seen: set[Any] | None = None
) -> Iterator[nn.Module]:
    """The networks that a call may ask: what is called, or what its closure, arguments and attributes refer to.

    Args:
        names: that the code mentions; of an object with several networks only those so named are asked.
        seen: what was looked at, with which names.
    """
    seen = set() if seen is None else seen
    if depth == 0 or isinstance(value, _LEAVES) or (id(value), names) in seen:
        return
    seen.add((id(value), names))
    if isinstance(value, functools.partial):
        inner = (value.func, *value.args, *value.keywords.values())
    elif inspect.ismethod(value):
        inner, names = (value.__self__, value.__func__), _mentioned(value)
    elif inspect.isfunction(value):
        function = inspect.unwrap(value)
        if not inspect.isfunction(function) or (function.__module__ or "").partition(".")[0] in _LIBRARIES:
            return
        names = _mentioned(function)
        inner = (
            *_closure(function),
            *(function.__globals__[name] for name in sorted(_global_names(function) & set(function.__globals__))),
        )
    elif isinstance(value, dict):
        inner = tuple(itertools.islice(value.values(), _MOST))
    elif isinstance(value, list | tuple):
        inner = tuple(value[:_MOST])
    else:
        inner = tuple(_attributes(value, names))
        if isinstance(value, nn.Module) and (names is None or not inner):
            yield value
            return
    for each in inner[:_MOST]:
        yield from _networks(each, names, depth - 1, seen)


def _mentioned(function: Any) -> frozenset[str]:
    """Names of globals and attributes in the code of a function and of those within it, and that it may be called."""
    return frozenset({"__call__"}.union(*(code.co_names for code in _codes(inspect.unwrap(function)))))


def _global_names(function: Any) -> set[str]:
    """Names that the code of a function, and of those within it, takes from its module."""
    every = itertools.chain.from_iterable(map(dis.get_instructions, _codes(function)))
    return {each.argval for each in every if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def _codes(function: Any) -> Iterator[CodeType]:
    """Of a function and of those within it; none of what is not written in Python."""
    codes = [getattr(function, "__code__", None)]
    while codes:
        code = codes.pop()
        if isinstance(code, CodeType):
            yield code
            codes += code.co_consts


def _closure(function: Any) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents


def _attributes(value: Any, names: frozenset[str] | None) -> Iterator[Any]:
    """The parts of a module; what another object holds, and the methods of its class: all, or those that are named."""
    module = isinstance(value, nn.Module)
    held = value._modules if module else getattr(value, "__dict__", {})
    if names is None:
        yield from held.values()
        return
    for name in sorted(names):
        of_class = getattr(type(value), name, None)
        if name in held:
            yield held[name]
        elif not module and isinstance(of_class, property):
            yield MethodType(of_class.fget, value)  # pyright: ignore[reportArgumentType]
        elif not module and inspect.isfunction(of_class):
            yield MethodType(of_class, value)
