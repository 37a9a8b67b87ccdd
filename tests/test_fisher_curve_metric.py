"""Fisher curves of batches that come one after another, on one rank and on several; compiled networks."""

import sys
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
import torch
from torch import distributed

from hessfast.diffusability import (
    FisherCurveMetric,
    GaussianMixture,
    fisher_curve,
    from_denoiser,
    from_density,
    from_edm_raw,
)

ROOT = Path(__file__).resolve().parent.parent
DENSITY = GaussianMixture([[-1.0], [1.0]], [0.05, 0.3])
TAU = [0.1, 1.0]


def stream(batches, seed=0, **options):
    metric = FisherCurveMetric(from_density(DENSITY), TAU, seed=seed, **options)
    for batch in batches:
        metric.update(batch)
    return metric


def test_a_stream_has_the_curves_of_its_density():
    x = DENSITY.sample(6000, 1)
    curve = stream(x.split(47), asymmetry=True).compute()
    for place, name in enumerate(("fisher_information", "fisher_information_rate", "mmse", "mmse_rate")):
        estimate, exact = getattr(curve, name), np.array([DENSITY.exact(tau)[place] for tau in TAU])
        assert (np.abs(estimate.mean - exact) < 4.5 * estimate.sem).all() and (estimate.sem < 0.05 * exact).all()
        assert (estimate.num_samples == 6000).all()
    whole = fisher_curve(from_density(DENSITY), x, TAU)
    np.testing.assert_allclose(curve.fisher_information_rate.sem, whole.fisher_information_rate.sem, rtol=0.15)
    assert curve.warnings == () and curve.asymmetry is not None and np.abs(curve.asymmetry.mean).max() < 1e-20


def test_batches_that_repeat_have_other_noise_and_seeds_repeat_it():
    x = DENSITY.sample(64, 0)
    once, twice = stream([x]).compute(), stream([x, x]).compute()
    assert (once.mmse.mean != twice.mmse.mean).all()
    np.testing.assert_array_equal(stream([x, x]).compute().mmse.mean, twice.mmse.mean)
    assert (stream([x, x], seed=1).compute().mmse.mean != twice.mmse.mean).all()
    metric = stream([x[:10]])
    metric.reset()
    for batch in (x, x):
        metric.update(batch)
    np.testing.assert_array_equal(metric.compute().mmse.mean, twice.mmse.mean)


def test_what_is_wrong_with_a_score_is_said():
    metric = FisherCurveMetric(from_denoiser(lambda y, tau: 0.5 * y, tau_range=(0.5, 2.0)), TAU)
    metric.update(10 * DENSITY.sample(2000, 0))
    told = " ".join(map(str, metric.compute().warnings))
    assert (
        "plug-in and DSM disagree" in told and "the denoiser is out of its range at tau = 0.1: it is good for" in told
    )


def test_metric_refuses():
    metric = FisherCurveMetric(from_density(DENSITY), TAU)
    with pytest.raises(ValueError, match=r"update must have seen two samples or more, got 0\."):
        metric.compute()
    metric.update(torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"update must have seen two samples or more, got 1\."):
        metric.compute()
    with pytest.raises(ValueError, match=r"samples must have the shape of the last, \(1,\), got \(2,\)"):
        metric.update(torch.ones(3, 2))
    with pytest.raises(ValueError, match="samples must be finite, got NaN or infinity"):
        metric.update(torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match=r"tau must be positive and ascending, got \[0.0\]"):
        FisherCurveMetric(from_density(DENSITY), [0.0])


def _rank(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=2)
    curve = stream(DENSITY.sample(300, 0)[rank::2].split(60)).compute()
    np.save(f"{folder}/{rank}.npy", [curve.mmse.mean, curve.mmse.sem, curve.mmse.num_samples])
    distributed.destroy_process_group()


def test_ranks_are_summed_and_draw_other_noise(tmp_path):
    code = f"from tests.test_fisher_curve_metric import _rank; import sys; _rank(int(sys.argv[1]), {str(tmp_path)!r})"
    ranks = [Popen([sys.executable, "-c", code, str(rank)], cwd=ROOT) for rank in range(2)]
    assert [process.wait(120) for process in ranks] == [0, 0]
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first[2] == 300).all()
    alone = stream(DENSITY.sample(300, 0)[0::2].split(60)).compute()
    other = stream(DENSITY.sample(300, 0)[1::2].split(60)).compute()
    same_noise = (alone.mmse.mean + other.mmse.mean) / 2
    assert (np.abs(first[0] - same_noise) > 1e-6).all()  # as it would be if the second rank drew the first one's
    assert (np.abs(first[0] - same_noise) < 6 * first[1]).all()


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.SiLU(), torch.nn.Linear(16, 3))

    def forward(self, y, c_noise):
        return self.layers(y) * torch.cos(c_noise)[:, None]


def test_a_compiled_network_has_the_same_curve():
    network = Network().requires_grad_(False)
    x, compiled = torch.randn(96, 3), torch.compile(network)
    expected = fisher_curve(from_edm_raw(network), x, TAU)
    found = fisher_curve(from_edm_raw(compiled), x, TAU)
    np.testing.assert_allclose(found.fisher_information_rate.mean, expected.fisher_information_rate.mean, rtol=1e-5)
    with pytest.raises(ValueError, match="num_probes must be 1 for a compiled network that gives its buffers away"):
        fisher_curve(from_edm_raw(compiled), x, TAU, num_probes=2)
