"""Parts of batches: which samples an index picks, and how these are numbered."""

from typing import Any

import numpy as np

from hessfast._arrays import selected, take


def rows(index: Any, length: int) -> slice | np.ndarray:
    """What an integer, slice, index array or mask selects of a batch: a slice if the rows follow one another."""
    if isinstance(index, tuple) or (numbers := np.atleast_1d(selected(index, length))).ndim > 1:
        raise IndexError(f"a batch is indexed along one axis, got {index!r:.80}. Use batch.words for its arrays.")
    first = int(numbers[0]) if numbers.size else 0
    return slice(first, first + len(numbers)) if (np.diff(numbers) == 1).all() else numbers


def part_of(batch: Any, index: Any, *names: str) -> dict[str, Any]:
    """What of a batch changes where rows of it are taken: the arrays of those names, unless None, and `first_id`."""
    chosen = rows(index, len(batch))
    arrays = {name: getattr(batch, name) for name in names}
    part = {name: None if array is None else take(array, chosen) for name, array in arrays.items()}
    first = chosen.start if isinstance(chosen, slice) else None
    return part | {"first_id": None if first is None or batch.first_id is None else batch.first_id + first}


def first_id_of(batch: Any) -> int:
    """The number of the first of a batch, from which the dynamics draw."""
    if batch.first_id is None:
        raise ValueError(
            "batch must be of consecutive numbers, got one that was picked from another. "
            "Number it anew: dataclasses.replace(batch, first_id=0)."
        )
    return batch.first_id
