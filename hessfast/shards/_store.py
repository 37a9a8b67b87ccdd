"""Reading a store: lazy arrays over its sealed shards."""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from . import _files
from ._arrays import ShardedArray
from ._plan import Plan


class Store(Mapping[str, ShardedArray]):
    """An opened folder: a mapping from the names of the plan's arrays to `ShardedArray`.

    Attributes:
        folder: where it lies, as an absolute path.
        plan: what it holds.
        shards: numbers of the shards that can be read: all, unless it was opened with ``partial=True``.
    """

    def __init__(self, folder: Path, plan: Plan, shards: list[int]):
        self.folder, self.plan, self.shards = folder, plan, shards
        # A bounded number of maps: each holds a file descriptor, of which a process may have 1,024.
        self._map = functools.lru_cache(maxsize=128)(
            lambda shard: _files.map_shard(_files.shard_path(folder, shard), plan)
        )
        self._lengths = [stop - start for start, stop in map(plan.bounds, shards)]

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """Sample id of each row of the arrays; 0 .. num-1 if nothing is missing."""
        return np.concatenate([np.arange(0), *(np.arange(*self.plan.bounds(shard)) for shard in self.shards)])

    def __eq__(self, other: object) -> bool:  # a mapping would compare arrays, and read them
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __getitem__(self, name: str) -> ShardedArray:
        if name not in self.plan.arrays:
            raise KeyError(f"{self.folder} has no array {name!r}; it has {', '.join(self.plan.arrays)}.")
        dtype, shape = self.plan.arrays[name]
        return ShardedArray(dtype, shape, self._lengths, functools.partial(self._block, name))

    def _block(self, name: str, position: int) -> np.ndarray:
        return self._map(self.shards[position])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.plan.arrays)

    def __len__(self) -> int:
        return len(self.plan.arrays)

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r}, {self.plan.name}, {sum(self._lengths)} of {self.plan.num} samples)"

    def __reduce__(self):
        return Store, (self.folder, self.plan, self.shards)  # maps stay behind when a store goes to another process

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """Shard by shard all arrays, as read-only memory maps."""
        return (self._map(shard) for shard in self.shards)

    def broken(self) -> list[int]:
        """The shards that are not sealed or do not match their checksum; reads everything."""
        every = range(self.plan.num_shards)
        return [shard for shard in every if not _files.is_sealed(self.folder, self.plan, shard, thorough=True)]


def read_plan(folder: str | Path) -> Plan:
    """The plan in a folder, whatever of it is made; FileNotFoundError or ValueError if there is none."""
    path = _files.plan_path(Path(folder))
    try:
        fields = json.loads(path.read_bytes())
        newer = fields["plan"].keys() - {each.name for each in dataclasses.fields(Plan)}
        version = fields["made_by"]["hessfast"] if newer else None
        plan = Plan.from_dict({name: value for name, value in fields["plan"].items() if name not in newer})
        if plan.hash != fields["hash"] and not newer:
            raise ValueError
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{folder} holds no data set: it has no {path.name}. "
            "Name a folder that hessfast sample or shards.fill has made."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(
            f"{path} is damaged; run the command that began it again, put back the original, or delete the folder."
        ) from None
    if newer:
        raise ValueError(
            f"{path} must have only fields that this version knows, got {', '.join(sorted(newer))} of hessfast "
            f"{version}. Use that version."
        )
    return plan


def open(folder: str | Path, *, partial: bool = False, verify: bool = False) -> Store:
    """Open a store for reading; nothing is loaded but the plan and the seals.

    Every shard must be sealed and have its sealed size.

    Args:
        folder: where `fill` put it.
        partial: take what is there; the rows of the arrays are then the samples ``store.ids``.
        verify: also compare every checksum (reads everything once).

    Raises:
        FileNotFoundError: if there is no store.
        ValueError: if the plan cannot be read, or shards are missing or broken and `partial` is False.

    Example:
        >>> import tempfile
        >>> from hessfast import shards
        >>> plan, folder = shards.Plan("squares", 10, 4, {"square": ("int64", ())}), tempfile.mkdtemp()
        >>> _ = shards.fill(folder, plan, lambda start, stop: {"square": np.arange(start, stop) ** 2})
        >>> shards.open(folder)["square"][[1, -1]]
        array([ 1, 81])
    """
    folder = Path(folder).absolute()
    plan = read_plan(folder)
    every = range(plan.num_shards)
    shards = [shard for shard in every if _files.is_sealed(folder, plan, shard, thorough=verify)]
    if len(shards) < plan.num_shards and not partial:
        raise ValueError(
            f"{folder} must be complete to be read, but {plan.num_shards - len(shards)} of its {plan.num_shards} "
            "shards are missing or broken. Make them with the command that began it, or open it with partial=True."
        )
    return Store(folder, plan, shards)
