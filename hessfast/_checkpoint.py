"""Training that can be killed: weights and Adam's moments in one safetensors file, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessfast import _atomic, _interrupts


def save(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, plan: dict) -> None:
    """Write what training needs to go on after `step` steps of a `plan` (JSON-able)."""
    from safetensors.torch import save as to_bytes

    tensors = {f"module.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    metadata = {"step": str(step), "plan": json.dumps(plan, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    _atomic.write(path, [to_bytes(tensors, metadata)])


def read(path: str | Path, device: Any = "cpu") -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a safetensors file; a SafetensorError if it is damaged."""
    from safetensors import safe_open

    with _interrupts.deferred(), safe_open(path, "pt", device) as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping


def load(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, plan: dict) -> int:
    """Put everything back and return the steps done; 0 without a file. Another plan's file is refused."""
    from safetensors import SafetensorError

    if not path.exists():
        return 0
    try:
        metadata, tensors = read(path)
    except SafetensorError as error:
        raise ValueError(f"checkpoint must be a whole safetensors file, got {str(path)!r}. Remove it.") from error
    if metadata.get("plan") != json.dumps(plan, sort_keys=True):
        raise ValueError(f"checkpoint must be of the same training, got {str(path)!r} of another. Remove it.")
    module.load_state_dict({name[7:]: tensor for name, tensor in tensors.items() if name.startswith("module.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(metadata["step"])
