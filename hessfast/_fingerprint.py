"""What a network is: its structure, and with its weights its fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hessfast import _arrays

_CONFIGURED = "torch", "diffusers", "transformers", "open_clip", "hessfast"  # print or configure what they are


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of a module's structure and of its weights."""
    digest = hashlib.sha256(structure(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_arrays.to_numpy(tensor.contiguous().flatten().view(torch.uint8)).tobytes())
    return digest.hexdigest()


def structure(module: nn.Module) -> str:
    """A module as it prints itself and as its libraries configure it, and what classes of users keep in attributes:
    numbers, words, names of functions, and tuples of them.
    """
    config: Any = getattr(module, "config", {})  # a dict of diffusers, an object of transformers, anything of others
    config = config.to_dict() if hasattr(config, "to_dict") else config
    config = config if isinstance(config, Mapping) else getattr(config, "__dict__", {"": repr(config)})
    said = {str(key): _plain(value) for key, value in config.items() if _is_said(str(key))}
    for name, part in module.named_modules():
        if type(part).__module__.partition(".")[0] not in _CONFIGURED:
            said |= {f"{name}.{key}": _plain(value) for key, value in vars(part).items() if _is_said(key)}
    return f"{module!r} {json.dumps(said, sort_keys=True)}"


def _is_said(key: str) -> bool:
    return key[:1] != "_" and key not in ("training", "transformers_version")


def _plain(value: Any) -> Any:
    """What JSON can hold of a value: arrays by their digest, functions by name, of others the class."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return _arrays.digest(_arrays.to_numpy(value))
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__qualname__
