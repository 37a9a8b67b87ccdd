"""Tensors and fields in one safetensors file, written whole or not at all; training that can be killed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hessfast import _atomic, _interrupts

_ENTRY = "hessfast"  # of the metadata


def save(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, step: int, plan: dict) -> None:
    """Write what training needs to go on after `step` steps of a `plan` (JSON-able)."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    write(path, tensors, {"step": step, "plan": plan})


def write(path: str | Path, tensors: dict[str, torch.Tensor], fields: dict[str, Any]) -> None:
    """A file of `to_bytes`, in a folder that is made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _atomic.write(path, [to_bytes(tensors, fields)])


def to_bytes(tensors: dict[str, torch.Tensor], fields: dict[str, Any]) -> bytes:
    """A safetensors file with fields that JSON can hold, and a checksum of all; a function of what is in it."""
    from safetensors.torch import save

    # One entry of metadata: several would come in any order.
    # Clones, as safetensors takes no two that share memory.
    tensors = {name: x.detach().contiguous().clone() for name, x in tensors.items()}
    fields = json.loads(json.dumps(fields))
    whole = fields | {"sha256": _digest(tensors, fields)}
    return save(tensors, {_ENTRY: json.dumps(whole)})


def read(path: str | Path, device: Any = "cpu") -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Fields and tensors of a file of `to_bytes`, or metadata and tensors of another; a ValueError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with _interrupts.deferred(), safe_open(path, "pt", device) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if _ENTRY not in metadata:
        return metadata, tensors
    fields = json.loads(metadata[_ENTRY])
    if fields.pop("sha256", None) != _digest(tensors, fields):
        raise ValueError(f"{path} is damaged: its checksum is not that of its content.")
    return fields, tensors


def read_as(kind: str, path: str | Path, device: Any = "cpu") -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """`read` of a file whose field "format" is `kind`, "module.Class version", as the `save` of that class writes it.

    Raises:
        FileNotFoundError: without a file.
        ValueError: for a damaged file, or one of another kind.
    """
    writer = f"{kind.partition(' ')[0].rpartition('.')[2]}.save"
    if not Path(path).is_file():
        raise FileNotFoundError(f"path must be a file written by {writer}, got {str(path)!r}.")
    try:
        fields, tensors = read(path, device)
    except ValueError:
        fields, tensors = {}, {}
    if fields.get("format") != kind:
        raise ValueError(f"path must be a whole file of {writer}, got {str(path)!r}, damaged or of another kind.")
    return fields, tensors


def part(named: dict[str, Any], name: str) -> dict[str, Any]:
    """What is named "name.…", without that."""
    return {key.removeprefix(f"{name}."): value for key, value in named.items() if key.startswith(f"{name}.")}


def _digest(tensors: dict[str, torch.Tensor], fields: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, plan: dict) -> int:
    """Put everything back and return the steps done; 0 without a file. Another plan's file is refused."""
    if not path.exists():
        return 0
    try:
        fields, tensors = read(path)
    except ValueError as error:
        raise ValueError(f"checkpoint must be a whole safetensors file, got {str(path)!r}. Remove it.") from error
    if fields.get("plan") != json.loads(json.dumps(plan)):
        raise ValueError(f"checkpoint must be of the same training, got {str(path)!r} of another. Remove it.")
    module.load_state_dict(part(tensors, "module"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return fields["step"]
