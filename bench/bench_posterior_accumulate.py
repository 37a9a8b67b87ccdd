"""Posteriors by similarity on a grid of 128 x 128: pairs of samples a ns. All pairs of 60,105 samples are 3.6e9."""

import numpy as np
import pytest

from hessfast.kernels.posterior_accumulate import cpu, reference
from hessfast.posterior import Grid


def problem(num, num_features=768, side=128):
    """Unit features on a noisy surface over the square, as similar as those of an image encoder (median cosine 0.9)."""
    rng = np.random.default_rng(0)
    parameters = rng.uniform(0, 1, (num, 2))
    hidden = np.tanh(1.5 * parameters @ rng.normal(size=(2, 64))) @ rng.normal(size=(64, num_features)) / 8
    features = hidden + 0.67 * rng.normal(size=(num, num_features)) / np.sqrt(num_features)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    cells, weights, offsets = Grid((0.0, 0.0), (1.0, 1.0), (side, side)).corners(parameters)
    return features.astype(np.float32), cells, weights.astype(np.float32), offsets, side**2, True, 10.0, 2e-5


def check():
    features, cells, weights, *rest = problem(600)
    expected = reference.posterior_accumulate(features[:20], features, cells, weights, *rest)
    np.testing.assert_allclose(
        cpu.posterior_accumulate(None, features, cells, weights, *rest)[:20], expected, rtol=1e-5
    )


def test_samples_with_themselves(record_rate):
    """As dense on its grid as 60,105 samples on 128 x 128."""
    check()
    arguments = problem(8192, side=47)
    record_rate(lambda: cpu.posterior_accumulate(None, *arguments), work=8192**2, unit="pairs/ns/core", goal=0.045)


def test_new_samples(record_rate):
    check()
    arguments = problem(8192, side=47)
    queries = problem(1024)[0]
    record_rate(lambda: cpu.posterior_accumulate(queries, *arguments), work=1024 * 8192, unit="pairs/ns/core")


@pytest.mark.slow
def test_full_size(record_rate):
    """60,105 samples of 768 features on 128 x 128, by the clock, on the cores that NUMBA_NUM_THREADS gives."""
    check()
    arguments = problem(60_105)

    def once():  # and forget: two results at a time would be 8 GB
        cpu.posterior_accumulate(None, *arguments)

    record_rate(once, work=60_105**2, unit="pairs/ns", goal=0.0903)
