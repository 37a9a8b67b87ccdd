"""pattern_counts: how often each pattern of a small window occurs in binary images, exact integers.

    pattern_counts(cells, height, width, periodic) -> counts

| argument | dtype | shape                  | meaning                                          |     |
|----------|-------|------------------------|--------------------------------------------------|-----|
| cells    | uint8 | [n, rows, columns]     | 0 or 1                                           | IN  |
| height   | int64 | scalar                 | of the window, 1 <= height <= rows               | IN  |
| width    | int64 | scalar                 | of the window, 1 <= width <= columns             | IN  |
| periodic | bool  | scalar                 | windows wrap around, one for each cell; else not | IN  |
| counts   | int64 | [n, 2^(height width)]  | windows with each pattern                        | OUT |

The pattern of the window whose corner is (i, j) is the number
sum_kl cells[i + k, j + l] 2^(k + height (width - 1 - l)), so that a step to the right shifts it by `height` bits.
Work: a shift, an or and an increment a window; bytes: each image is read once from memory.
"""
