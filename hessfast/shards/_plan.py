"""What a sharded job makes: names, types and shapes of the arrays, how many samples, in which shards, from what."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hessfast._checks import integer

# What a safetensors file can hold and NumPy can map.
_DTYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
DTYPES = (*_DTYPES, "float16", "float32", "float64")
_SHAPES = (tuple, list, int, np.integer)


@dataclass(frozen=True)
class Plan:
    """The immutable description of a sharded job; two jobs with the same `hash` make the same bytes.

    Args:
        name: what is made, for example "ising".
        num: number of samples, >= 1.
        shard_size: samples per shard, >= 1; the last shard may be shorter.
        arrays: {name: (dtype, shape of one sample)}; a dtype or its name, a number for a shape of one axis.
        parameters: everything else that decides the bytes (seed, ranges, method ...), as JSON can hold it; NumPy's
            numbers become Python's.

    Raises:
        TypeError, ValueError: for numbers below 1, unknown dtypes, or parameters that JSON cannot hold.

    Example:
        >>> plan = Plan("squares", num=10, shard_size=4, arrays={"square": ("int64", ())})
        >>> plan.num_shards, plan.bounds(2), plan.num_bytes
        (3, (8, 10), 80)
    """

    name: str
    num: int
    shard_size: int
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("num", "shard_size"):
            object.__setattr__(self, name, integer(name, getattr(self, name), 1))  # NumPy's integers are not JSON's
        if not self.arrays:
            raise ValueError("arrays must name at least one array, got none.")
        arrays = {}
        for name, each in self.arrays.items():
            if not isinstance(each, tuple | list) or len(each) != 2 or not isinstance(each[1], _SHAPES):
                raise TypeError(f"arrays[{name!r}] must be (dtype, shape of one sample), got {each!r:.80}.")
            dtype, shape = each
            named = str(np.dtype(dtype) if isinstance(dtype, type) else dtype)
            if named not in DTYPES:
                raise ValueError(f"arrays[{name!r}] must have one of the dtypes {', '.join(DTYPES)}, got {dtype!r}.")
            sides = shape if isinstance(shape, tuple | list) else (shape,)
            arrays[name] = (named, tuple(integer(f"shape of {name}", side, 1) for side in sides))
        # Copies: a caller who later changes his dictionary must not change the plan.
        object.__setattr__(self, "arrays", arrays)
        try:
            parameters = json.loads(json.dumps(dict(self.parameters), allow_nan=False, default=_number))
        except (TypeError, ValueError) as error:
            raise TypeError(f"parameters must be what JSON can hold, got {self.parameters!r:.80}: {error}.") from None
        object.__setattr__(self, "parameters", parameters)

    @property
    def hash(self) -> str:
        """32 hexadecimal digits that change with any field."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def num_shards(self) -> int:
        """How many shards it takes; the last may hold fewer than `shard_size` samples."""
        return -(-self.num // self.shard_size)

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays together, without the headers of the files (a few hundred bytes a shard)."""
        return self.num * sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in self.arrays.values())

    def bounds(self, shard: int) -> tuple[int, int]:
        """First sample of the shard, and one past its last."""
        return shard * self.shard_size, min((shard + 1) * self.shard_size, self.num)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Plan":
        """The plan that `to_dict` described."""
        return cls(**fields)

    def differences(self, other: "Plan") -> list[str]:
        """One phrase for each field that differs, for example ``"parameters.seed (0, not 1)"``."""
        mine, theirs = _flatten(asdict(self)), _flatten(asdict(other))
        return [
            f"{key} ({mine.get(key, 'absent')}, not {theirs.get(key, 'absent')})"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


def _number(value: Any) -> Any:
    """NumPy's number as Python's; nothing else that JSON cannot hold."""
    number = value.item() if isinstance(value, (np.bool_, np.number)) else value
    if number is value or isinstance(number, np.generic):  # as that of a longdouble
        raise TypeError(f"{type(value).__name__} is none of its types")
    return number


def _flatten(fields: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values as the hash sees them, where 1 and 1.0 are two."""
    flat = {}
    for key, value in fields.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, sort_keys=True)
    return flat
