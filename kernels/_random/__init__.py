"""Randomness shared by all kernels: every random word is a pure function of (seed, sample id, step, position).

Keys form a tree. ``derive(key, index)`` is the ``index``-th output of SplitMix64 started at ``key``
(Steele, Lea, Flood 2014); children of one key, and keys of different kernels, are independent streams:

    root = derive(seed, KERNEL)          KERNEL: a constant below, so that no two kernels share words
    key  = derive(root, sample_id)       then derive(key, ...) as each kernel's contract says

Bulk words come from sfc64 (Doty-Humphrey, PractRand; the SFC64 of NumPy): state (a, b, c), a counter that
starts at 1, WARM_UP outputs thrown away. Its eight operations per word vectorise on every SIMD width.
    out = a + b + counter;  a = b ^ (b >> 11);  b = c + (c << 3);  c = rotl(c, 24) + out

`reference.py` holds both for Python integers, `cpu.py` for numba, `random.cuh` for CUDA C++.
"""

GOLDEN = 0x9E3779B97F4A7C15
WARM_UP = 12  # outputs of sfc64 thrown away
ISING_SWEEP, ISING_CFTP, ISING_FK_CFTP, ISING_FLIP, ISING_MCMC = 1, 2, 3, 4, 5
TASEP_SAMPLE, TASEP_EVOLVE = 6, 7
PARAMETERS = 8  # the random (T, H) and (alpha, beta) of data sets
DIFFUSABILITY = 9  # noise and probes of Fisher curves, beyond the kernels
SLICES = 10  # noise, anchors and halves of latent slices
