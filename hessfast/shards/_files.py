"""The files of a store: sealed by checksum, mapped for reading."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from hessfast import _atomic

from ._plan import Plan


def plan_path(folder: Path) -> Path:
    return folder / "plan.json"


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.safetensors"


def seal_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.done"


def num_sealed(folder: str | Path) -> int:
    """How many shards have a seal, without a look at what they hold; 0 for a folder that is not there."""
    return sum(1 for _ in Path(folder).glob("*.done"))


def dump(fields: dict[str, Any]) -> bytes:
    return _atomic.json_bytes(fields)


def checksum(content: bytes) -> str:
    # SHA-256: 1.4 GiB/s with the CPU's own instructions against 0.6 for BLAKE2b and 2.2 for a CRC of only 32 bits
    # (one Zen 3 core), and every system can check it (sha256sum).
    return hashlib.sha256(content).hexdigest()


def seal(plan: Plan, content: bytes) -> dict[str, Any]:
    return {"plan": plan.hash, "bytes": len(content), "sha256": checksum(content)}


def is_sealed(folder: Path, plan: Plan, shard: int, thorough: bool = False) -> bool:
    """Whether the shard has a seal of this plan and the sealed size; if `thorough`, also the sealed checksum."""
    path = shard_path(folder, shard)
    try:
        fields = json.loads(seal_path(folder, shard).read_bytes())
        if fields["plan"] != plan.hash or fields["bytes"] != path.stat().st_size:
            return False
        if not thorough:
            return True
        return _atomic.checksum(path) == fields["sha256"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return False  # no seal, or one that is itself damaged


def sealed_plans(folder: Path) -> set[str]:
    """Hashes of the plans that the readable seals name."""
    plans = set()
    for path in folder.glob("*.done"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            plans.add(json.loads(path.read_bytes())["plan"])
    return plans


def map_shard(path: Path, plan: Plan) -> dict[str, np.ndarray]:
    """The arrays of a shard as read-only views of one memory map."""
    content = np.asarray(np.memmap(path, np.uint8, "r"))
    # safetensors: the length of the header as 8 bytes, the header as JSON, then the arrays.
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    arrays = {}
    for name, (dtype, shape) in plan.arrays.items():
        begin, end = (start + offset for offset in header[name]["data_offsets"])
        arrays[name] = content[begin:end].view(dtype).reshape(-1, *shape)
    return arrays
