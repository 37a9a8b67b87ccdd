"""One line of what many samples or curves are, for their reprs."""

from typing import Any

import numpy as np

from hessfast._arrays import to_numpy


def counts(labels: np.ndarray) -> str:
    """How many of each, as "2 cftp, 1 mcmc"; without a label they are packed."""
    return "".join(
        f", {num} {name or 'packed'}" for name, num in zip(*np.unique(labels, return_counts=True), strict=True)
    )


def span(name: str, values: Any) -> str:
    """Least and greatest of the finite values; nothing where there are none."""
    numbers = np.array([]) if values is None else to_numpy(values)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return ""
    low, high = f"{numbers.min():.3g}", f"{numbers.max():.3g}"
    return f", {name} {low}" + ("" if low == high else f" to {high}")
