"""Deviations and penalties of encoders against closed forms: isometries, linear maps, a cylinder, a sphere."""

import math

import numpy as np
import pytest
import torch

from hessfast.diffusability import (
    Activated,
    Estimate,
    FisherCurve,
    GaussianMixture,
    encoder_penalties,
    fir_deviation,
    fisher_curve,
    from_density,
    gaussian_curves,
    gpe_cost,
    mmse_rate_deviation,
    normalisation,
    serpentine,
)


def closed_form(eigenvalues, tau):
    """The curves of a normal distribution, without error."""
    rows = [gaussian_curves(eigenvalues, t) for t in tau]

    def exact(name):
        return Estimate(np.array([getattr(row, name) for row in rows]), np.zeros(len(tau)), np.full(len(tau), 10))

    information = exact("fisher_information")
    return FisherCurve(
        np.array(tau), len(eigenvalues), information, information, information,
        exact("fisher_information_rate"), exact("mmse"), exact("mmse_rate"), (),
    )  # fmt: skip


def test_figure_3a():
    """N(0, I) and its image under diag(sqrt(1 + d), sqrt(1 - d)): u^2 (3 - u^2) / (1 - u^2)^2, u = d / (1 + tau)."""
    tau, d0 = np.array([0.1, 1.0]), 0.3
    u2 = (d0 / (1 + tau)) ** 2
    deviation = fir_deviation(closed_form([1, 1], tau), closed_form([1 + d0, 1 - d0], tau))
    np.testing.assert_allclose(deviation.mean, u2 * (3 - u2) / (1 - u2) ** 2, rtol=1e-12)


def test_figure_3b():
    """N(0, I_2) padded to 512 dimensions, of which d are kept."""
    tau = np.array([0.1, 1.0])
    for d in (2, 64, 256):
        data, latent = (closed_form([1, 1] + [0] * (n - 2), tau) for n in (512, d))
        expected = (512 - d) / (510 + 2 * tau**2 / (1 + tau) ** 2)
        np.testing.assert_allclose(fir_deviation(data, latent).mean, expected, rtol=1e-12)
        assert (fir_deviation(data, latent, signed=True).mean < 0).all()
        np.testing.assert_allclose(mmse_rate_deviation(data, latent).mean, 0, atol=1e-12)
    small = closed_form([1, 1] + [0] * 510, [1e-4]), closed_form([1, 1] + [0] * 62, [1e-4])
    assert fir_deviation(*small, "normal-dimension", dimension=2).mean[0] < 1e-6
    assert fir_deviation(*small, "per-dimension").mean[0] == pytest.approx(1 - 512 / 64 * 62 / 510, rel=1e-3)


def test_equal_signal_to_noise_forgives_a_scale():
    tau, c = np.array([0.1, 1.0]), 3.0
    data = closed_form([2.0, 0.5], tau)
    same_tau, same_ratio = (closed_form([c**2 * 2.0, c**2 * 0.5], t) for t in (tau, c**2 * tau))
    assert (fir_deviation(data, same_tau).mean > 0.5).all()
    np.testing.assert_allclose(fir_deviation(data, same_ratio, scale=c).mean, 0, atol=1e-12)
    np.testing.assert_allclose(mmse_rate_deviation(data, same_ratio, scale=c).mean, 0, atol=1e-12)


def test_standard_errors_of_deviations():
    """Against the spread of forty repeats."""
    x, z = GaussianMixture([[-1.0], [1.0]], [0.2, 0.2]), GaussianMixture([[-2.0], [1.0]], [0.1, 0.3])
    deviations = []
    for repeat in range(40):
        seeds = (2 * repeat, 2 * repeat + 1)
        curves = [
            fisher_curve(from_density(p), p.sample(1000, 7 * seed), 1.0, seed=seed, batch_size=1000)
            for p, seed in zip((x, z), seeds, strict=True)
        ]
        deviations.append(fir_deviation(*curves, signed=True))
    spread = np.std([d.mean[0] for d in deviations])
    assert 0.7 < spread / np.mean([d.sem[0] for d in deviations]) < 1.4
    exact = z.exact(1.0).fisher_information_rate / x.exact(1.0).fisher_information_rate - 1
    assert abs(np.mean([d.mean[0] for d in deviations]) - exact) < 4 * spread / 40**0.5


def test_normalisation_and_serpentine():
    z = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7) + 3
    normal = normalisation(z)
    assert normal(z).mean(dim=0).abs().max() < 1e-5
    assert float((normal(z) ** 2).mean()) == pytest.approx(1, rel=1e-5)
    assert float(normal(z)[:, 5].std() / normal(z)[:, 0].std()) == pytest.approx(6, rel=0.2)  # shapes stay
    image = serpentine(torch.arange(9.0)[None], 3)[0, 0]
    assert image.tolist() == [[0, 1, 2], [5, 4, 3], [6, 7, 8]]


def plane(n=400, seed=0):
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(dim, seed=0):
    normal = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normal).Q


def test_isometries_cost_nothing():
    """A plane in five dimensions, turned, shifted, and projected back to three that hold it."""
    turn = rotation(5)
    x = torch.nn.functional.pad(plane(), (0, 3)) @ turn.T
    penalties = encoder_penalties(lambda x: (x @ turn)[:, :3] @ rotation(3, 1) + 2, x, 2)
    assert penalties.compression == pytest.approx(2 / 3)
    for name in (
        "tangential_distortion", "anisotropy", "secant_distortion", "bending", "metric_change", "nonlinearity",
        "data_curvature", "gpe_cost",
    ):  # fmt: skip
        assert getattr(penalties, name).greatest < 1e-6, name


def test_linear_maps():
    """Singular values 3 and 1/2 on the plane: the metric has eigenvalues 9 and 1/4."""
    matrix = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64)) @ rotation(2)
    penalties = encoder_penalties(lambda x: x @ matrix.T, plane(), 2)
    assert penalties.tangential_distortion.mean == pytest.approx(8, rel=1e-9)
    assert penalties.tangential_distortion.sem < 1e-9
    assert penalties.anisotropy.mean == pytest.approx((9 - 0.25) / 9.25, rel=1e-9)
    assert penalties.bending.greatest < 1e-6 and penalties.nonlinearity.greatest < 1e-9
    assert 0.5 < penalties.secant_distortion.mean < 2 and penalties.gpe_cost.mean > 0.1


def test_the_cylinder_bends_without_stretching():
    """(sin(e x) / e, y, (1 - cos(e x)) / e): along (v, w) it bends by e v^2, on average e / 2."""
    e = 1.5

    def cylinder(p):
        return torch.stack([torch.sin(e * p[:, 0]) / e, p[:, 1], (1 - torch.cos(e * p[:, 0])) / e], dim=1)

    penalties = encoder_penalties(cylinder, plane(4000), 2, step=1e-3)
    assert penalties.tangential_distortion.greatest < 1e-6
    assert abs(penalties.bending.mean - e / 2) < 5 * penalties.bending.sem
    assert penalties.bending.greatest == pytest.approx(e, rel=1e-2)
    assert penalties.metric_change.greatest < 1e-3
    # And data on a cylinder have its curvature, whatever encodes them.
    along = encoder_penalties(lambda x: x, cylinder(plane(4000)), 2, frames=_frames_of_cylinder(plane(4000), e))
    assert along.data_curvature.greatest == pytest.approx(e, rel=0.02)
    assert along.compression == 0


def _frames_of_cylinder(p, e):
    zero, one = torch.zeros(len(p), dtype=p.dtype), torch.ones(len(p), dtype=p.dtype)
    first = torch.stack([torch.cos(e * p[:, 0]), zero, torch.sin(e * p[:, 0])], dim=1)
    return torch.stack([first, torch.stack([zero, one, zero], dim=1)], dim=2)


def test_a_chart_of_the_sphere():
    """Latitude and longitude to the unit sphere: metric 1 and cos^2(latitude)."""
    p = plane(500) * 0.9

    def sphere(p):
        latitude, longitude = p.T
        return torch.stack([latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()], dim=1)

    penalties = encoder_penalties(sphere, p, 2)
    least = p[:, 0].cos() ** 2
    assert penalties.tangential_distortion.mean == pytest.approx(float((1 - least).mean()), rel=1e-9)
    assert penalties.anisotropy.mean == pytest.approx(float(((1 - least) / (1 + least)).mean()), rel=1e-9)


def test_frames_of_neighbours_are_tangents():
    """On a noiseless surface of 5,000 points the principal axes of neighbours are tangents to a few degrees."""
    p = plane(5000)
    e = 1.0
    x = torch.stack([torch.sin(e * p[:, 0]) / e, p[:, 1], (1 - torch.cos(e * p[:, 0])) / e], dim=1)
    known, found = (encoder_penalties(lambda x: x[:, :2], x, 2, frames=f) for f in (_frames_of_cylinder(p, e), None))
    assert found.tangential_distortion.mean == pytest.approx(known.tangential_distortion.mean, rel=0.02)


def test_gpe_cost_of_a_pair():
    x, z = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    cost = gpe_cost(x[:1], x[1:], z[:1], z[1:])
    assert float(cost) == pytest.approx((math.log(10) - math.log(2)) ** 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 0}, "dimension must be >= 1"),
        ({"dimension": 3}, "dimension must be >= 1 and <= 2"),
        ({"samples": torch.ones(5)}, "samples must be"),
        ({"samples": torch.full((50, 2), torch.nan)}, "samples must be finite"),
        ({"samples": plane(4)}, "samples must be more than"),
        ({"samples": torch.ones(50, 2)}, "repeated samples"),
        ({"encoder": lambda x: x.sum()}, "encoder must map"),
        ({"encoder": lambda x: x / 0 * 0}, "encoder must return finite"),
        ({"encoder": lambda x: x.detach()}, "torch can differentiate"),
        ({"frames": torch.ones(400, 2, 1, dtype=torch.float64)}, "frames must have shape"),
        ({"frames": torch.ones(400, 2, 2, dtype=torch.float64)}, "frames must be orthonormal"),
        ({"step": 0.0}, "step must be > 0"),
    ],
)
def test_refusals_of_penalties(change, message):
    arguments = {"encoder": lambda x: 2 * x, "samples": plane(), "dimension": 2} | change
    with pytest.raises(ValueError, match=message):
        encoder_penalties(**arguments)


def test_refusals_of_deviations():
    data, other = closed_form([1.0], [1.0]), closed_form([1.0], [2.0])
    with pytest.raises(ValueError, match="latent must be a curve at"):
        fir_deviation(data, other)
    with pytest.raises(ValueError, match="form must be"):
        fir_deviation(data, data, "other")
    with pytest.raises(ValueError, match=r"dimension must be (in|finite)"):
        fir_deviation(data, data, "normal-dimension")
    with pytest.raises(ValueError, match="scale must be > 0"):
        mmse_rate_deviation(data, data, scale=0.0)
    with pytest.raises(ValueError, match="latents must differ"):
        normalisation(torch.ones(3, 2))
    with pytest.raises(ValueError, match="latents must have shape"):
        serpentine(torch.ones(3, 5), 2)


def test_a_pointwise_encoder_of_figure_2():
    """LeakyReLU of N(0, I_2): both rates by quadrature, twice those of a coordinate."""
    leaky = Activated(lambda x: torch.nn.functional.leaky_relu(x, 0.1), 2)
    data = closed_form([1, 1], [1.0])
    latent = fisher_curve(from_density(leaky), leaky.sample(2000, 0), 1.0)
    expected = 2 * 0.5753558626 / (2 / 4) - 1
    deviation = fir_deviation(data, latent, signed=True)
    assert abs(deviation.mean[0] - expected) < 5 * deviation.sem[0]
