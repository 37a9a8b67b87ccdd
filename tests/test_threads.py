"""One thread and two give the same words: a sample is a function of its number, not of who computes it."""

import threading

import numpy as np
import pytest

from hessfast import _random, ising, tasep

from .threads import threads

rng = np.random.default_rng(0)
TEMPERATURE, FIELD = rng.uniform(1.5, 5, 70), rng.choice([-1, 1], 70) * rng.uniform(0.05, 2, 70)
ALPHA, BETA = rng.uniform(0.1, 1, (2, 200))


def ising_sample(method):
    return ising.sample(TEMPERATURE, FIELD, size=32, seed=1, method=method).words


def ising_sweep():
    start = ising.pack(np.ones((70, 32, 32), np.int8))
    return ising.sweep(start, TEMPERATURE, FIELD, np.arange(70) % 7, seed=2).words


def tasep_sample():
    return tasep.sample(ALPHA, BETA, num_sites=1000, seed=3).words


def tasep_evolve():
    return tasep.evolve(tasep.pack(np.zeros((200, 100), np.int8)), ALPHA, BETA, duration=20.0, seed=4).words


@pytest.mark.parametrize(
    "draw",
    [lambda: ising_sample("auto"), lambda: ising_sample("mcmc"), ising_sweep, tasep_sample, tasep_evolve],
    ids=["ising.sample auto", "ising.sample mcmc", "ising.sweep", "tasep.sample", "tasep.evolve"],
)
def test_same_words(draw):
    with threads(1):
        alone = draw()
    with threads(2):
        together = draw()
    assert alone.any()
    np.testing.assert_array_equal(together, alone)


def test_auto_needs_both_exact_methods():
    assert set(ising.sample(TEMPERATURE, FIELD, size=2).certificate) == {"cftp", "fk-cftp"}


def test_seeds_of_threads_are_their_own():
    """One begins between two draws of another, if it may."""
    import torch

    done = threading.Event()

    def two(between):
        with _random.seeded(0):
            first = torch.rand(())
            between()
            return [float(first), float(torch.rand(()))]

    def draw():
        with _random.seeded(1):
            done.wait(60)

    other = threading.Thread(target=draw)

    def meanwhile():
        other.start()
        other.join(0.3)

    beside = two(meanwhile)
    done.set()
    other.join()
    assert beside == two(lambda: None)
