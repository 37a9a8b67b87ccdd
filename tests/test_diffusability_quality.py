"""How far samples are apart: distances of normal distributions, which are known."""

import numpy as np
import pytest
from scipy.stats import foldnorm, norm

from hessfast.diffusability import energy_distance, frechet_distance


def test_energy_distance_of_normals():
    """N(0, 1) and N(m, 1) in one dimension: E|X - Y| is that of N(m, 2)."""
    rng, m = np.random.default_rng(0), 1.5
    x = norm.ppf((np.arange(3000) + 0.5) / 3000)[:, None]
    apart = foldnorm(m / 2**0.5, scale=2**0.5).mean()
    assert energy_distance(x, m + x) == pytest.approx(2 * apart - 2 * 2 / np.pi**0.5, abs=2e-3)
    same = [energy_distance(*rng.normal(size=(2, 100, 1))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 200**0.5  # no bias


def test_frechet_distance_of_normals():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3)) * [1, 2, 3]
    y = rng.normal(size=(20_000, 3)) * [2, 2, 1] + [1, 0, 0]
    assert frechet_distance(x, y) == pytest.approx(1 + 1 + 0 + 4, rel=0.03)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_few_samples_span_few_directions():
    """Covariances of rank two in five dimensions, whose other eigenvalues are rounded to either side of 0."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        x = rng.normal(size=(3, 5))
        assert frechet_distance(x, x + 2) == pytest.approx(20, abs=1e-6)


@pytest.mark.parametrize("distance", [energy_distance, frechet_distance])
def test_samples_of_other_dimensions(distance):
    with pytest.raises(ValueError, match="others must have as many numbers each as samples, 1, got 2"):
        distance([[0.0], [1.0]], [[0.0, 1.0], [1.0, 2.0]])
