"""An array spread over the shards of a store, read piece by piece through memory maps."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hessfast._arrays import selected


class ShardedArray:
    """Reads like a NumPy array of shape ``(num_samples, *sample_shape)``, of which only what is asked for is loaded.

    Integers, slices, index arrays and masks select samples; integers, slices and ``...`` may follow for the other
    axes. What comes back is a fresh NumPy array. `blocks` yields read-only memory maps, shard by shard, without a copy.
    """

    def __init__(self, dtype: str, shape: Sequence[int], lengths: Sequence[int], read: Callable[[int], np.ndarray]):
        self.dtype = np.dtype(dtype)
        self._edges = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.shape = (int(self._edges[-1]), *shape)
        self._read = read  # position of a shard in `lengths` -> its part of the array, memory-mapped

    @property
    def ndim(self) -> int:
        """Number of axes; the first counts samples."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ShardedArray(shape={self.shape}, dtype={self.dtype}, shards={len(self._edges) - 1})"

    def __iter__(self) -> Iterator[Any]:
        return (sample for block in self.blocks() for sample in block.copy())

    def __eq__(self, other: Any) -> Any:
        return np.asarray(self) == other

    def __ne__(self, other: Any) -> Any:
        return np.asarray(self) != other

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("A sharded array must be copied to become one NumPy array; use blocks() to avoid it.")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def blocks(self) -> Iterator[np.ndarray]:
        """The shards one after another, as read-only memory maps."""
        return (self._read(position) for position in range(len(self._edges) - 1))

    def __getitem__(self, index) -> Any:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        if not all(isinstance(part, (int, np.integer, slice)) or part is Ellipsis for part in rest):
            raise TypeError("Only integers, slices and ... may follow the index of the samples.")
        samples = selected(first, len(self))
        return self._gather(samples)[(slice(None),) * samples.ndim + tuple(rest)]

    def _gather(self, samples: np.ndarray) -> np.ndarray:
        flat = samples.ravel()
        out = np.empty((flat.size, *self.shape[1:]), self.dtype)
        position = np.searchsorted(self._edges, flat, side="right") - 1
        for each in np.unique(position):
            here, block = np.flatnonzero(position == each), self._read(each)
            local = flat[here] - self._edges[each]
            # A run of neighbours, as every slice is, moves as one block instead of sample by sample.
            if (np.diff(local) == 1).all() and (np.diff(here) == 1).all():
                out[here[0] : here[-1] + 1] = block[local[0] : local[-1] + 1]
            else:
                out[here] = block[local]
        return out.reshape(samples.shape + self.shape[1:])
