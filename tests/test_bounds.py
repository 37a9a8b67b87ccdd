"""Bounds on the Fisher information of latents against linear maps of normal distributions, known in closed form."""

import numpy as np
import pytest

from hessfast.diffusability import Estimate, FisherCurve, fisher_information_bounds, gaussian_curves

TAU = np.geomspace(1e-3, 1e3, 121)


def closed_form(eigenvalues, tau=TAU):
    rows = [gaussian_curves(eigenvalues, t) for t in tau]
    exact = [Estimate(np.array(row), np.zeros(len(tau)), np.full(len(tau), 10)) for row in zip(*rows, strict=True)]
    return FisherCurve(np.array(tau), len(eigenvalues), exact[0], exact[0], exact[0], *exact[1:], ())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("more", [0, 2])
def test_linear_maps_of_normal_distributions_keep_them(seed, more):
    """z = A x, A [3 + more, 3] of singular values 1/2 to 2: S_z = A S A^T, with zeros where z has more dimensions."""
    rng = np.random.default_rng(seed)
    turn, back = (np.linalg.qr(rng.standard_normal((3, 3))).Q for _ in range(2))
    A = turn @ np.diag([0.5, 1.1, 2.0]) @ back
    eigenvalues = np.linalg.eigvalsh(A @ np.diag([4.0, 0.5, 0.01]) @ A.T)
    tau = TAU[20:-20]
    exact = closed_form([*eigenvalues, *[0.0] * more], tau).fisher_information.mean
    bounds = fisher_information_bounds(closed_form([4.0, 0.5, 0.01]), tau, 0.5, 2.0, latent_dim=3 + more)
    assert (bounds.lower <= exact).all() and (exact <= bounds.upper).all()


def test_they_meet_for_a_scale_and_are_reached():
    """z = 2 x has FI_x(tau / 4) / 4, which is not between FI_x(tau) / 4 and itself."""
    data, tau = closed_form([1.0, 0.3]), TAU[20:-20]
    bounds, exact = fisher_information_bounds(data, tau, 2.0, 2.0), closed_form([4.0, 1.2], tau)
    for bound in bounds:
        np.testing.assert_allclose(bound, exact.fisher_information.mean, rtol=2e-4)
    assert (exact.fisher_information.mean > 1.05 * data.fisher_information.mean[20:-20] / 4).any()


def test_they_reach_the_ends_of_the_data():
    """Whatever tau / l^2 is rounded to."""
    tau = 0.7 * TAU
    data = closed_form([1.0, 0.3], tau)
    for scale in np.linspace(0.5, 2, 31):
        bounds = fisher_information_bounds(data, scale**2 * tau, scale, scale)
        np.testing.assert_allclose(bounds.lower, data.fisher_information.mean / scale**2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 1e3}, r"tau must need data from 0.001 to 1e\+03, got 250 to 4e\+03\. Measure the data there"),
        ({"tau": 0.0}, "tau must be positive"),
        ({"shrinks": 3.0}, "shrinks must be <= stretches, got 3 and 2"),
        ({"stretches": 0.0}, "stretches must be > 0"),
        ({"latent_dim": 1}, "latent_dim must be >= 2, got 1"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        fisher_information_bounds(
            **{"data": closed_form([1.0, 2.0]), "tau": 1.0, "shrinks": 0.5, "stretches": 2.0} | change
        )


def test_only_curves_have_bounds():
    with pytest.raises(TypeError, match=r"data must be a FisherCurve, got int\. See fisher_curve"):
        fisher_information_bounds(1, 1.0, 1.0, 1.0)
