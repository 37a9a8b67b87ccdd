"""Rates of the samplers, each lattice or chain with parameters of its own, and of what one writes without hessfast."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from hessfast import ising, tasep
from hessfast._dispatch import kernel
from hessfast.ising import _methods, _thresholds

from .measure import Row, rate

SIDE, SITES = 128, 16_384
SPINS = SIDE * SIDE


def _uniform(num: int, *ranges: tuple[float, float]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.uniform(low, high, num) for low, high in ranges]


def sweeps() -> Iterator[Row]:
    """The kernel alone, thresholds on the device."""
    import torch

    for num, goal in ((16_384, 3500.0), (1, None), (132, None), (1056, None), (4224, None), (131_072, None)):
        temperature, field = _uniform(num, (1, 5), (-2, 2))
        words = torch.randint(-(2**62), 2**62, (num, 4, 64, 1), device="cuda").view(torch.uint64)
        thresholds = torch.as_tensor(_thresholds.heat_bath(temperature, field), device="cuda")
        ids = torch.arange(num, device="cuda").view(torch.uint64)
        times = 500 if num < 100_000 else 100
        num_sweeps = torch.full((num,), times, device="cuda")
        call = partial(kernel("ising_sweep", "cuda"), words, thresholds, num_sweeps, ids, np.uint64(1), SIDE)
        yield rate(f"ising_sweep: {num} lattices", call, num * SPINS * times, "flips/ns", goal, seconds=0.7)


def sweep_by_torch() -> Iterator[Row]:
    """A float per flip and one byte per spin, one (T, H) for each lattice, as one writes it with torch."""
    import torch

    num = 1024
    temperature, field = (
        torch.as_tensor(x, device="cuda", dtype=torch.float32) for x in _uniform(num, (1, 5), (-2, 2))
    )
    spins = (2 * torch.randint(0, 2, (num, SIDE, SIDE), device="cuda") - 1).to(torch.int8)
    black = (torch.arange(SIDE, device="cuda")[:, None] + torch.arange(SIDE, device="cuda")) % 2 == 0
    scale, shift = (2 / temperature)[:, None, None], (2 * field / temperature)[:, None, None]

    def half(spins, mask):
        around = spins.roll(1, 1) + spins.roll(-1, 1) + spins.roll(1, 2) + spins.roll(-1, 2)
        up = torch.rand(spins.shape, device="cuda") < torch.sigmoid(scale * around + shift)
        return torch.where(mask, 2 * up.to(torch.int8) - 1, spins)

    def sweep(spins):
        return half(half(spins, black), ~black)

    for name, function in (("torch", sweep), ("torch.compile", torch.compile(sweep))):
        yield rate(f"peer: Ising sweep, {name}", partial(function, spins), num * SPINS, "flips/ns", seconds=0.7)


def perfect() -> Iterator[Row]:
    """The paper's 540,000 (T, H), uniform on [1, 5] x [-2, 2]: those for which coupling spins is declared."""
    import torch

    temperature, field = _uniform(540_000, (1, 5), (-2, 2))
    chosen = np.flatnonzero(_methods.declared(temperature, field))
    chosen = chosen[np.argsort(_methods.work(temperature[chosen], field[chosen]), kind="stable")[::-1]]
    temperature, field = temperature[chosen], field[chosen]
    rungs = torch.as_tensor(_methods.first_rungs(temperature, field, SIDE), device="cuda")
    thresholds = torch.as_tensor(_thresholds.heat_bath(temperature, field), device="cuda")
    ids = torch.arange(len(chosen), device="cuda").view(torch.uint64)
    call = partial(kernel("ising_cftp", "cuda"), thresholds, rungs, ids, np.uint64(1), SIDE)
    yield rate("ising_cftp: declared region, kernel", call, len(chosen), "samples/s", 515_000 / 0.4, num=len(chosen))
    public = partial(ising.sample, temperature, field, seed=1, method="cftp", device="cuda")
    yield rate("ising_cftp: declared region, ising.sample", public, len(chosen), "samples/s", rounds=3, num=len(chosen))


def observables() -> Iterator[Row]:
    import torch

    words = torch.randint(-(2**62), 2**62, (262_144, 4, 64, 1), device="cuda").view(torch.uint64)
    call = partial(kernel("ising_observables", "cuda"), words, SIDE)
    yield rate("ising_observables: 262144 lattices", call, words.numel() * 8 / 1e9, "GB/s")


def chains() -> Iterator[Row]:
    import torch

    num = 150_000
    entry, leave = _uniform(num, (0.05, 1), (0.05, 1))
    words = torch.zeros((num, SITES // 64), dtype=torch.int64, device="cuda").view(torch.uint64)
    exponents = torch.zeros((num, 2), dtype=torch.int64, device="cuda")
    call = partial(kernel("tasep_sample", "cuda"), words, exponents, entry, leave, SITES, 1, 0)
    yield rate("tasep_sample: 150000 x 16384 sites, kernel", call, num, "samples/s", 150_000 / 0.2)
    public = partial(tasep.sample, entry, leave, SITES, seed=1, device="cuda")
    yield rate("tasep_sample: 150000 x 16384 sites, tasep.sample", public, num, "samples/s", 150_000 / 0.2, rounds=5)


def dynamics() -> Iterator[Row]:
    for num in (4096, 65_536):
        entry, leave = _uniform(num, (0.05, 1), (0.05, 1))
        chain = tasep.sample(entry, leave, SITES, seed=1, device="cuda")
        call = partial(tasep.evolve, chain, leave, entry, 1.0, seed=2)
        yield rate(f"tasep_evolve: {num} x 16384 sites", call, num * (SITES + 1), "attempts/ns", rounds=5)
