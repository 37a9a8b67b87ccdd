"""ising_observables: interaction energy and magnetisation of packed Ising lattices, exact integers.

    ising_observables(words, size) -> energy, magnetization

| argument      | dtype  | shape                          | meaning                             |     |
|---------------|--------|--------------------------------|-------------------------------------|-----|
| words         | uint64 | [n, 4, size/2, ceil(size/128)] | packed lattices (see _heat_bath)    | IN  |
| size          | int64  | scalar                         | side, even, >= 2                    | IN  |
| energy        | int64  | [n]                            | -sum over bonds of s_i s_j          | OUT |
| magnetization | int64  | [n]                            | sum of s_i                          | OUT |

A site has four neighbour slots, so a side of 2 has double bonds. Every bond has one black end: energy is
2 (unequal bonds) - 2 size^2, the unequal ones counted as black bits that differ from each of their four neighbours.
Work: 5 population counts a black word; bytes: each lattice is read once.
"""
