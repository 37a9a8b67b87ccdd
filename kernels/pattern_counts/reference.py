"""pattern_counts by its definition, one shifted copy of the images for each cell of the window."""

import numpy as np


def pattern_counts(cells, height, width, periodic):
    pattern = np.zeros(cells.shape, np.int64)
    for k in range(height):
        for l in range(width):
            pattern += np.roll(cells, (-k, -l), axis=(1, 2)).astype(np.int64) << (k + height * (width - 1 - l))
    if not periodic:
        pattern = pattern[:, : cells.shape[1] - height + 1, : cells.shape[2] - width + 1]
    num_patterns = 1 << height * width
    counts = [np.bincount(each.ravel(), minlength=num_patterns) for each in pattern]
    return np.array(counts, np.int64).reshape(len(cells), num_patterns)
