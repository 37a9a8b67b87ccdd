"""posterior_accumulate: weighted samples gathered on a grid of parameters, without the matrix of their distances.

    posterior_accumulate(queries, samples, cells, weights, offsets, num_nodes, laplace, scale, softening) -> grid

| argument  | dtype   | shape          | meaning                                                               |     |
|-----------|---------|----------------|-----------------------------------------------------------------------|-----|
| queries   | float32 | [m, d] or None | features q_i whose posterior is wanted; None: those of the samples    | IN  |
| samples   | float32 | [n, d]         | features s_j of samples at known parameters                           | IN  |
| cells     | int64   | [n]            | node at the lowest corner of the cell that holds the parameter of j   | IN  |
| weights   | float32 | [n, c]         | multilinear weight of j for each of the c = 2^dim corners of its cell | IN  |
| offsets   | int64   | [c]            | node of a corner less the node of the lowest corner                   | IN  |
| num_nodes | int     | scalar         | nodes of the grid                                                     | IN  |
| laplace   | bool    | scalar         | exp(-scale r) with r^2 = |q - s|^2 + softening; else exp(-scale r^2)  | IN  |
| scale     | float   | scalar         | >= 0                                                                  | IN  |
| softening | float   | scalar         | >= 0                                                                  | IN  |
| grid      | float32 | [m, num_nodes] | sum_j kernel(q_i, s_j) weights[j, k] at node cells[j] + offsets[k]    | OUT |

Squared distances come from inner products, |q|^2 + |s|^2 - 2 q s, of features less their mean. Where an error of
ROUNDING (|q|^2 + |s|^2) would change the exponent by more than TOLERANCE they are computed again from differences: for
`laplace` where |q - s| is small, else where scale (|q|^2 + |s|^2) is large, unless the weight is nothing anyway.
Work: 2 m n d operations, half of that when the queries are the samples; then an exponential and c additions a pair.
Bytes: the output twice; the m x n weights exist in panels only.
"""

ROUNDING, TOLERANCE = 1.2e-7, 2e-6
