"""The public functions on a CUDA device: the same bits as on the CPU, then the rate. ``python -m bench.gpu`` runs it.

Rates are of whole calls, with their checks and their kernel launches; the samples stay on the device.
"""

import numpy as np
import pytest

from hessfast import ising, tasep
from hessfast._dispatch import BackendUnavailableError

pytestmark = pytest.mark.gpu
SMALL, LARGE, SIDE, NUM_SITES = 64, 16_384, 128, 16_384


def test_ising_sweep(record_rate):
    """Goal: 3,000 flips/ns on one H100 or H200, each lattice with its own (T, H)."""
    num_sweeps = 10_000  # the thresholds, made on the host, cost as much as some thousand sweeps
    temperature, field = uniform(SMALL, (1, 5), (-2, 2))
    start = {device: ising.pack(spins(SMALL, device)) for device in ("cpu", "cuda")}
    same_bits(lambda device: ising.sweep(start[device], temperature, field, 20, seed=3).words)
    temperature, field = uniform(LARGE, (1, 5), (-2, 2))
    batch = ising.pack(spins(LARGE, "cuda"))
    record_rate(
        synchronized(lambda: ising.sweep(batch, temperature, field, num_sweeps, seed=4)),
        work=LARGE * SIDE * SIDE * num_sweeps,
        unit="flips/ns",
        goal=3000,
        device="cuda",
    )


def test_ising_cftp(record_rate):
    """At T >= 2.5 the spin chain couples fast for every field. Goal: 515,000 lattices in 195 ms."""
    temperature, field = uniform(SMALL, (2.5, 5), (-2, 2))
    same_bits(lambda device: ising.sample(temperature, field, SIDE, seed=3, method="cftp", device=device).words)
    temperature, field = uniform(LARGE, (2.5, 5), (-2, 2))
    record_rate(
        synchronized(lambda: ising.sample(temperature, field, SIDE, seed=4, method="cftp", device="cuda")),
        work=LARGE,
        unit="us/sample",
        goal=0.38,
        device="cuda",
    )


def test_tasep_sample(record_rate):
    """Goal: 150,000 configurations of 16,384 sites in a second."""
    entry_rate, exit_rate = uniform(SMALL, (0.05, 1), (0.05, 1))
    same_bits(lambda device: tasep.sample(entry_rate, exit_rate, NUM_SITES, seed=3, device=device).words)
    entry_rate, exit_rate = uniform(LARGE, (0.05, 1), (0.05, 1))
    record_rate(
        synchronized(lambda: tasep.sample(entry_rate, exit_rate, NUM_SITES, seed=4, device="cuda")),
        work=LARGE,
        unit="us/sample",
        goal=6.7,
        device="cuda",
    )


def test_tasep_evolve(record_rate):
    """One unit of time is one attempted jump per bond."""
    duration, num_chains = 2.0, 4096
    entry_rate, exit_rate = uniform(SMALL, (0.05, 1), (0.05, 1))
    same_bits(
        lambda device: (
            tasep.evolve(
                tasep.sample(entry_rate, exit_rate, NUM_SITES, seed=3, device=device),
                exit_rate,
                entry_rate,
                duration,
                seed=5,
            ).words
        )
    )
    entry_rate, exit_rate = uniform(num_chains, (0.05, 1), (0.05, 1))
    chain = tasep.sample(entry_rate, exit_rate, NUM_SITES, seed=4, device="cuda")
    record_rate(
        synchronized(lambda: tasep.evolve(chain, exit_rate, entry_rate, duration, seed=6)),
        work=num_chains * (NUM_SITES + 1) * duration,
        unit="attempts/ns",
        device="cuda",
    )


def uniform(count, *ranges):
    """One array of `count` numbers for each (low, high)."""
    generator = np.random.default_rng(0)
    return [generator.uniform(low, high, count) for low, high in ranges]


def spins(count, device):
    import torch

    signs = np.random.default_rng(1).integers(0, 2, (count, SIDE, SIDE), dtype=np.int8) * 2 - 1
    return torch.from_numpy(signs).to(device)


def same_bits(words):
    """A kernel without a GPU form is a gap in the list, not a failure."""
    try:
        on_gpu = words("cuda")
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    np.testing.assert_array_equal(on_gpu.cpu().numpy(), np.asarray(words("cpu")))


def synchronized(call):
    import torch

    def run():
        call()
        torch.cuda.synchronize()

    return run
