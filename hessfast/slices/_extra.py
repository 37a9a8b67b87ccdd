"""Packages that only some generators and features need, imported when they are used."""

import importlib
from types import ModuleType


def diffusers() -> ModuleType:
    return _load("diffusers", "slices of diffusion models", "pip install 'hessfast[slices]'")


def transformers() -> ModuleType:
    return _load("transformers", "pipelines with a text encoder", "pip install 'hessfast[slices]'")


def open_clip() -> ModuleType:
    return _load("open_clip", "CLIP features", "pip install open_clip_torch")


def _load(name: str, purpose: str, command: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and lacks something itself
            raise
        raise ImportError(f"{name} must be installed for {purpose}. Run {command}.") from None
