"""Points on polylines, by linear interpolation between their corners."""

import numpy as np


def resampled(points: np.ndarray, num: int) -> np.ndarray:
    """`num` points at equal steps of the parameter of polylines `[*batch, n, dim]`, ends among them."""
    place = np.linspace(0, points.shape[-2] - 1, num)
    left = np.minimum(place.astype(int), points.shape[-2] - 2)
    share = (place - left)[:, None]
    return (1 - share) * points[..., left, :] + share * points[..., left + 1, :]


def equidistant(polyline: np.ndarray, lengths: np.ndarray, num: int) -> np.ndarray:
    """`num` points on one polyline `[n, dim]`, ends among them, at equal distances.

    Args:
        lengths: of the segments, `[n - 1]`, in whatever metric; where all are 0, they count alike.
    """
    along = np.concatenate([[0.0], np.cumsum(lengths if lengths.any() else np.ones_like(lengths))])
    targets = np.linspace(0, along[-1], num)
    points = np.stack([np.interp(targets, along, coordinate) for coordinate in polyline.T], axis=-1)
    points[[0, -1]] = polyline[[0, -1]]  # which interpolation misses where segments beside them have no length
    return points
