"""block_tridiagonal: many symmetric systems of small blocks along a line, solved by Cholesky's method.

    block_tridiagonal(diagonal, lower, right) -> solution, definite

| argument | dtype   | shape            | meaning                                                              |     |
|----------|---------|------------------|----------------------------------------------------------------------|-----|
| diagonal | float64 | [n, m, d, d]     | symmetric blocks D_k; m, d >= 1                                      | IN  |
| lower    | float64 | [n, m - 1, d, d] | L_k: row k + 1, column k; its transpose is the block of k and k + 1  | IN  |
| right    | float64 | [n, m, d]        |                                                                      | IN  |
| solution | float64 | [n, m, d]        | 0 where the matrix is not positive definite                          | OUT |
| definite | bool    | [n]              | whether it is; false for NaN                                         | OUT |

Pivots P_k = D_k - L_k-1 P_k-1^-1 L_k-1^T; a system takes m (7/3 d^3 + 4 d^2) operations, and its m pivots wait for each
other, so that threads share systems, not blocks. What each reads, 2 m d^2 numbers, it reads twice.
"""
