"""pattern_counts in numba: the window slides along a row, and the pattern is shifted by one column."""

import numba
import numpy as np

from .._threads import numbers, share


def pattern_counts(cells, height, width, periodic):
    counts = np.zeros((len(cells), 1 << height * width), np.int64)
    share(_count_all, len(cells), np.ascontiguousarray(cells), height, width, periodic, counts)
    return counts


@numba.njit(cache=True, nogil=True)
def _count_all(tickets, cells, height, width, periodic, counts):
    rows, columns = cells.shape[1], cells.shape[2]
    last_row = rows if periodic else rows - height + 1
    last_column = columns + width - 1 if periodic else columns
    mask = np.int64((1 << height * width) - 1)
    column = np.empty(last_column, np.int64)
    for n in numbers(tickets):
        for i in range(last_row):
            for j in range(columns):
                column[j] = cells[n, i, j]
            for k in range(1, height):
                row = i + k if i + k < rows else i + k - rows
                for j in range(columns):
                    column[j] |= np.int64(cells[n, row, j]) << k
            for j in range(columns, last_column):
                column[j] = column[j - columns]
            pattern = np.int64(0)
            for j in range(width - 1):
                pattern = pattern << height | column[j]
            for j in range(width - 1, last_column):
                pattern = (pattern << height | column[j]) & mask
                counts[n, pattern] += 1
