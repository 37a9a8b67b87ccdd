"""log Z is known up to an affine function of theta: the one that brings it closest to a reference."""

from typing import Any

import numpy as np

from hessfast import _arrays, _checks


def align(values: Any, theta: Any, reference: Any) -> Any:
    """`values` plus the affine function of theta that brings them closest to `reference`, by least squares.

    Args:
        values: log Z as learned, `[n]`.
        theta: natural parameters, `[n, dim]`.
        reference: log Z as known, `[n]`.

    Example:
        >>> theta = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> align(theta[:, 0] ** 2, theta, theta[:, 0] ** 2 - 7 * theta[:, 0] + 2).round(9).tolist()
        [2.0, -4.0, -8.0, -10.0]
    """
    given = values
    values, theta, reference = (
        _checks.float_array(*x) for x in (("values", values), ("theta", theta), ("reference", reference))
    )
    if theta.ndim != 2 or not values.shape == reference.shape == theta.shape[:1]:
        raise ValueError(
            "values, theta and reference must have shapes [n], [n, dim] and [n], "
            f"got {values.shape}, {theta.shape} and {reference.shape}."
        )
    theta = theta - theta.mean(axis=0) if len(theta) else theta
    constant, slope = affine_fit(reference - values, theta)
    return _arrays.as_given(values + constant + theta @ slope, given)


def affine_fit(values: np.ndarray, theta: np.ndarray) -> tuple[float, np.ndarray]:
    """The constant and the slope `[dim]` of the affine function of theta `[n, dim]` closest to `values` `[n]`.

    Example:
        >>> constant, slope = affine_fit(np.array([1.0, 3.0, 5.0]), np.array([[0.0], [1.0], [2.0]]))
        >>> round(constant, 9), slope.round(9).tolist()
        (1.0, [2.0])
    """
    if not len(theta):
        return 0.0, np.zeros(theta.shape[1])
    # Else a slope far from the origin, or in small units, would be cut as if the rank were deficient.
    centre, width = theta.mean(axis=0), np.ptp(theta, axis=0)
    width = np.where(width > 0, width, 1)
    columns = np.column_stack([np.ones(len(theta)), (theta - centre) / width])
    constant, *slope = np.linalg.lstsq(columns, values, rcond=None)[0]
    slope = np.array(slope) / width
    return float(constant - centre @ slope), slope
