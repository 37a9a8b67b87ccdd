"""ising_sweep: heat-bath sweeps of packed Ising lattices, each with its own temperature, field and number of sweeps.

    ising_sweep(words, thresholds, num_sweeps, sample_ids, seed, size)

| argument   | dtype  | shape                          | meaning                                             |       |
|------------|--------|--------------------------------|-----------------------------------------------------|-------|
| words      | uint64 | [n, 4, size/2, ceil(size/128)] | packed lattices (see _heat_bath)                    | INOUT |
| thresholds | uint64 | [n, 5]                         | floor(2^64 P(up | j neighbours up))                 | IN    |
| num_sweeps | int64  | [n]                            | sweeps of each lattice, >= 0                        | IN    |
| sample_ids | uint64 | [n]                            | identity of each lattice for its randomness         | IN    |
| seed       | uint64 | scalar                         |                                                     | IN    |
| size       | int64  | scalar                         | side, even, >= 2                                    | IN    |

The run of lattice i has the key derive(derive(seed, ISING_SWEEP), sample_ids[i]).
Work: num_sweeps size^2 spin updates a lattice, each of B = 10 random bits; bytes: a lattice is read and written once.
Arrays are C-contiguous.
"""
