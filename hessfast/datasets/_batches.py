"""Samples of a data set as the batches that `ising` and `tasep` work on."""

from typing import Any

import numpy as np

from hessfast import _batches
from hessfast.ising import IsingBatch
from hessfast.shards import Store
from hessfast.tasep import TasepBatch

from ._plans import CERTIFICATES


def batch(store: Store, part: Any = slice(None)) -> IsingBatch | TasepBatch:
    """Samples of a data set, with what unpacks and measures them.

    Args:
        store: ``shards.open(folder)``, of one of the two data sets.
        part: which of its samples: a slice, integer, index array or mask; one is 2 KB, unpacked 16 KB.

    Raises:
        ValueError: for another store.

    Example:
        Any part of a data set holds what `ising.sample` draws of the same numbers.

        >>> import tempfile
        >>> from hessfast import datasets, ising, shards
        >>> plan = datasets.ising_plan(8, size=32, seed=3)
        >>> store = shards.fill(tempfile.mkdtemp(), plan, datasets.maker(plan))
        >>> some = datasets.batch(store, slice(2, 6))
        >>> again = ising.sample(some.temperature, some.field, 32, seed=3, first_id=2)
        >>> bool((some.words == again.words).all()), some.certificate.tolist() == again.certificate.tolist()
        (True, True)
    """
    plan = store.plan
    if plan.name not in ("ising", "tasep"):
        raise ValueError(f"store must hold one of the data sets ising, tasep, got {plan.name!r}.")
    rows, seed = _batches.rows(part, len(store.ids)), plan.parameters["seed"]
    ids = store.ids[rows]
    first_id = None if (np.diff(ids) != 1).any() else int(ids[0]) if ids.size else 0
    columns = {name: np.asarray(store[name][rows]) for name in plan.arrays}
    if plan.name == "tasep":
        certificate = np.full(len(columns["words"]), "exact")
        return TasepBatch(
            num_sites=plan.parameters["num_sites"], certificate=certificate, seed=seed, first_id=first_id, **columns
        )
    certificate = np.array(CERTIFICATES)[columns.pop("certificate")]
    return IsingBatch(certificate=certificate, size=plan.parameters["size"], seed=seed, first_id=first_id, **columns)
