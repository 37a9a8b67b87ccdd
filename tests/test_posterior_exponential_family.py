"""The exponential-family posterior against families whose log Z is known, and against the Ising model's."""

import contextlib
from functools import partial

import numpy as np
import pytest

from hessfast import ising, tasep
from hessfast.log_partition import LogPartition
from hessfast.posterior import ExponentialFamilyPosterior, Grid, ising_patterns, patterns, tasep_profile
from hessfast.posterior.exponential_family import _covariance, _learn
from hessfast.posterior.exponential_family._basis import Basis, Hyperplane
from hessfast.posterior.exponential_family._components import chosen_components, ridge
from hessfast.posterior.exponential_family._covariance import with_covariances
from hessfast.posterior.exponential_family._kink import find_kink
from hessfast.posterior.exponential_family._potential import fit_potential


def affine_rest(values, theta):
    """What is left of values after the best affine function of theta."""
    design = np.column_stack([np.ones(len(theta)), theta])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def inner(theta, num=300):
    """Some of the points in the middle half of each coordinate's range."""
    low, high = np.quantile(theta, (0.1, 0.9), axis=0)
    return theta[((theta > low) & (theta < high)).all(axis=1)][:num]


def normal_family(num=6000, seed=0):
    """x ~ N(covariance t, covariance): log Z = t^T covariance t / 2; two features of noise beside."""
    rng = np.random.default_rng(seed)
    covariance = np.array([[1.0, 0.4], [0.4, 0.5]])
    theta = rng.uniform(-2, 2, (num, 2))
    x = theta @ covariance + rng.normal(size=(num, 2)) @ np.linalg.cholesky(covariance).T
    return np.hstack([x, rng.normal(size=(num, 2))]), theta, covariance


def test_normal_family_has_a_constant_metric():
    z, theta, covariance = normal_family()
    posterior = ExponentialFamilyPosterior().fit(z, theta)
    assert posterior.kink_ is None
    points = inner(theta)
    np.testing.assert_allclose(posterior.fisher_metric(points).mean(axis=0), covariance, atol=0.06)
    truth = np.einsum("ni,ij,nj->n", points, covariance, points) / 2
    assert np.std(affine_rest(posterior.log_z(points) - truth, points)) < 0.05 * np.std(affine_rest(truth, points))
    np.testing.assert_allclose(posterior.directions_[:2], np.eye(2), atol=0.1)
    np.testing.assert_allclose(posterior.directions_[2:], 0, atol=0.1)


@pytest.mark.parametrize("unit", [1e-9, 3e6])
def test_units_of_features_and_of_parameters_change_nothing_but_noise(unit):
    """x ~ N(t, I), one of both in another unit: the metric in the first one is I."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, (2000, 2))
    x = t + rng.normal(size=t.shape)
    for features, parameters in (([1, unit], [1, 1]), ([1, 1], [1, unit]), ([1, 1], [unit, unit])):
        fitted = ExponentialFamilyPosterior().fit(x * features, t * parameters)
        metric = fitted.fisher_metric(np.zeros(2)) * np.outer(parameters, parameters)
        np.testing.assert_allclose(metric, np.eye(2), atol=0.15)
        assert fitted.convexity_ == 1


def test_mean_is_the_gradient_of_phi_and_the_metric_its_derivative():
    z, theta, _ = normal_family(1000)
    posterior = ExponentialFamilyPosterior().fit(z, theta)
    points, step = inner(theta, 20), 1e-5
    for a, shift in enumerate(step * np.eye(2)):
        slope = (posterior.log_z(points + shift) - posterior.log_z(points - shift)) / (2 * step)
        np.testing.assert_allclose(posterior.mean(points)[:, a], slope, atol=1e-7)
        bend = (posterior.mean(points + shift) - posterior.mean(points - shift)) / (2 * step)
        np.testing.assert_allclose(posterior.fisher_metric(points)[:, a], bend, atol=1e-4)


def test_its_log_partition_is_the_same_function_saved_or_not(tmp_path):
    """With a kink in two dimensions, and as polynomials in four."""
    rng = np.random.default_rng(3)
    for dim in (2, 4):
        theta = rng.uniform(-1, 1, (4000, dim))
        z = theta + 0.1 * rng.normal(size=theta.shape)
        if dim == 2:
            z = np.column_stack([z, 5 * np.sign(theta[:, 0] - theta[:, 1] + 0.1)])
        posterior = ExponentialFamilyPosterior(100).fit(z, theta)
        assert (posterior.kink_ is not None) == (dim == 2)
        LogPartition.from_posterior(posterior).save(tmp_path / str(dim))
        loaded, points = LogPartition.load(tmp_path / str(dim)), inner(theta, 100)
        if kink := posterior.kink_:  # on it and beside, where it is round
            points = np.concatenate([points, [(kink.offset + s * kink.width) * kink.normal for s in (-1, 0, 0.5)]])
        np.testing.assert_allclose(loaded.log_z(points), posterior.log_z(points), atol=1e-11)
        np.testing.assert_allclose(loaded.mean(points), posterior.mean(points), atol=1e-10)
        np.testing.assert_allclose(loaded.fisher_metric(points), posterior.fisher_metric(points), atol=1e-8)
        with pytest.raises(ValueError, match="potential must have weights to be fitted, got none"):
            loaded.fit_mean(points, points)


def test_bernoulli_products_of_100_factors():
    """Frequencies of two kinds of coins: phi = (log(1 + e^a) + log(1 + e^b)) / 100 for 100 = 50 + 50 tosses."""
    rng = np.random.default_rng(1)
    theta = rng.uniform(-2, 2, (5000, 2))
    chance = 1 / (1 + np.exp(-theta))
    z = rng.binomial(50, chance) / 100
    posterior = ExponentialFamilyPosterior(100).fit(z, theta)
    points = inner(theta)
    truth = 0.5 * np.log1p(np.exp(points)).sum(axis=1)
    assert np.std(affine_rest(posterior.log_z(points) - truth, points)) < 0.03 * np.std(affine_rest(truth, points))
    p = 1 / (1 + np.exp(-points))
    error = np.diagonal(posterior.fisher_metric(points), axis1=1, axis2=2) - 0.5 * p * (1 - p)
    assert np.sqrt((error**2).mean()) < 0.01  # of 0.125 at most


@pytest.mark.parametrize("dim", [1, 3, pytest.param(5, marks=pytest.mark.slow)])
def test_softmax_family(dim):
    """Counts of 40 draws among dim + 1 classes: phi = log(1 + sum_k e^t_k)."""
    rng = np.random.default_rng(dim)
    theta = rng.uniform(-1, 1, (6000, dim))
    weights = np.column_stack([np.exp(theta), np.ones(len(theta))])
    z = rng.multinomial(40, weights / weights.sum(axis=1, keepdims=True))[:, :dim] / 40
    posterior = ExponentialFamilyPosterior(40).fit(z, theta)
    points = inner(theta)
    truth = np.log1p(np.exp(points).sum(axis=1))
    assert np.std(affine_rest(posterior.log_z(points) - truth, points)) < 0.08 * np.std(affine_rest(truth, points))
    p = np.exp(points) / (1 + np.exp(points).sum(axis=1, keepdims=True))
    metric = np.eye(dim) * p[:, None] - p[:, :, None] * p[:, None, :]
    assert np.abs(posterior.fisher_metric(points).mean(axis=0) - metric.mean(axis=0)).max() < 0.02  # of 0.25 at most


def ring(coupling, field):
    """Transfer matrix of a ring of spins of three states: K for equal neighbours, h for spins in state 0."""
    equal, marked = np.eye(3), (np.arange(3) == 0) / 2
    return np.exp(coupling[..., None, None] * equal + field[..., None, None] * (marked[:, None] + marked))


def ring_log_z(theta, num_sites):
    """log Z per spin."""
    values = np.sort(np.linalg.eigvalsh(ring(theta[..., 0], theta[..., 1])), axis=-1)
    return np.log(values[..., -1]) + np.log1p(((values[..., :2] / values[..., -1:]) ** num_sites).sum(-1)) / num_sites


def ring_statistics(theta, num_sites, rng):
    """Frequencies of equal neighbours and of state 0, of exact samples: one spin after another, given the first."""
    num, weights = len(theta), ring(*theta.T)
    weights = weights / np.linalg.eigvalsh(weights)[:, -1, None, None]
    powers = [np.broadcast_to(np.eye(3), weights.shape)]
    for _ in range(num_sites):
        powers.append(powers[-1] @ weights)

    def draw(chances):
        return (np.cumsum(chances, axis=1) < rng.random((num, 1)) * chances.sum(axis=1, keepdims=True)).sum(axis=1)

    spins, rows = np.empty((num, num_sites), int), np.arange(num)
    spins[:, 0] = draw(np.diagonal(powers[-1], axis1=1, axis2=2))
    for k in range(1, num_sites):
        spins[:, k] = draw(weights[rows, spins[:, k - 1]] * powers[num_sites - k][rows, :, spins[:, 0]])
    return np.stack([(spins == np.roll(spins, 1, axis=1)).mean(axis=1), (spins == 0).mean(axis=1)], axis=1)


def test_metric_of_a_ring_of_potts_spins():
    """It varies tenfold over the box: ten times the smoothness of cross-validation, or none, would be far off."""
    rng = np.random.default_rng(0)
    theta = np.stack([rng.uniform(0, 1.5, 5000), rng.uniform(-1, 1, 5000)], axis=1)
    posterior = ExponentialFamilyPosterior(64, sufficient=True, num_splits=2)
    posterior.fit(ring_statistics(theta, 64, rng), theta)
    points = np.stack([rng.uniform(0.05, 1.45, 600), rng.uniform(-0.95, 0.95, 600)], axis=1)
    step = 1e-3 * np.eye(2)
    truth = np.empty((600, 2, 2))
    for a, b in np.ndindex(2, 2):
        signs = [(i, j, ring_log_z(points + i * step[a] + j * step[b], 64)) for i in (-1, 1) for j in (-1, 1)]
        truth[:, a, b] = sum(i * j * value for i, j, value in signs) / 4e-6
    learned = posterior.fisher_metric(points)
    relative = np.linalg.norm(learned - truth, axis=(1, 2)) / np.linalg.norm(truth, axis=(1, 2))
    assert np.median(relative) < 0.085 and np.quantile(relative, 0.9) < 0.15
    ratios = np.linalg.eigvals(np.linalg.solve(truth, learned)).real
    assert np.quantile(ratios, 0.05) > 0.87 and np.quantile(ratios, 0.95) < 1.3
    pull = (learned - truth) / posterior.standard_error("fisher_metric", points)
    assert np.median(np.abs(pull)) < 1.2  # of a normal variable .67; errors of two splits are themselves uncertain


@pytest.mark.parametrize("sufficient", [True, False])
def test_metric_where_it_is_small(sufficient):
    """1,000 pairs of coupled spins in a field: hardly one is turned by a strong one, and both statistics count those.

    From the slope of means alone a twentieth of the metrics would be indefinite, and a tenth off by more than 1.
    """
    states = np.array([[1, 2], [-1, 0], [-1, 0], [1, -2]])

    def law(theta):
        weights = np.exp(theta @ states.T)
        return weights / weights.sum(axis=1, keepdims=True)

    rng = np.random.default_rng(0)
    theta = rng.uniform([0, -2], [1.5, 2], (4000, 2))
    frequencies = rng.multinomial(1000, law(theta)) / 1000
    posterior = ExponentialFamilyPosterior(1000, sufficient=sufficient)
    posterior.fit(frequencies @ states if sufficient else frequencies, theta)
    points = rng.uniform([0.05, -1.9], [1.45, 1.9], (500, 2))
    means = law(points) @ states
    truth = np.einsum("nk,ka,kb->nab", law(points), states, states) - means[:, :, None] * means[:, None, :]
    assert np.linalg.eigvalsh(truth)[:, 0].min() < 0.005 < 1 < np.linalg.eigvalsh(truth)[:, 1].max()
    whiten = np.linalg.inv(np.linalg.cholesky(truth))
    ratios = np.linalg.eigvalsh(whiten @ posterior.fisher_metric(points) @ whiten.transpose(0, 2, 1))
    assert (ratios > 0).mean() > 0.98
    off = np.abs(ratios - 1).max(axis=1)
    assert np.median(off) < 0.22 and np.quantile(off, 0.75) < 0.42 and np.quantile(off, 0.9) < 0.75


@pytest.mark.parametrize("most", [5, 15, 20])
def test_metric_beside_saturation(most):
    """Sums of 100 independent spins in fields up to `most`: beyond 5 none is turned, which says nothing of the rest."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-most, most, (3000, 1))
    posterior = ExponentialFamilyPosterior(100, sufficient=True)
    posterior.fit(rng.binomial(100, 1 / (1 + np.exp(-theta))) / 100, theta)
    points = np.linspace(-3, 3, 50)
    truth = 1 / (2 + 2 * np.cosh(points))
    assert np.median(np.abs(posterior.fisher_metric(points[:, None])[:, 0, 0] / truth - 1)) < 0.15


def test_statistics_that_depend_on_one_another():
    """What one leaves of the other is rounding, and no equation."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-2, 2, (2000, 2))
    x = theta.sum(axis=1, keepdims=True) + rng.normal(size=(2000, 1))
    posterior = ExponentialFamilyPosterior(sufficient=True).fit(np.hstack([x, x]), theta)
    np.testing.assert_allclose(posterior.fisher_metric(rng.uniform(-1.5, 1.5, (100, 2))), 1, atol=0.2)


def test_a_kink_as_wide_as_the_parameters_leaves_the_means():
    z, theta, covariance = normal_family(1000)
    kink = Hyperplane(np.array([1.0, 0.0]), 0.0, 0.9)
    fit = _learn._with_potential(z[:, :2], theta, theta, 1, kink, (6, 6), np.eye(2), False)
    metric = with_covariances(fit, z[:, :2], theta, theta, 1).fisher_metric(inner(theta))
    np.testing.assert_allclose(metric.mean(axis=0), covariance, atol=0.15)


def test_covariances_of_many_are_those_of_a_few_at_a_time(monkeypatch):
    z, theta, _ = normal_family(1000)
    fit = _learn._with_potential(z[:, :2], theta, theta, 1, None, (6, 6), np.eye(2), False)
    whole = with_covariances(fit, z[:, :2], theta, theta, 1).fisher_metric(theta)
    monkeypatch.setattr(_covariance, "_NUMBERS", 3000)
    few = with_covariances(fit, z[:, :2], theta, theta, 1).fisher_metric(theta)
    np.testing.assert_allclose(few, whole, atol=3e-4)


def test_residuals_are_whitened_at_every_parameter():
    """By their covariance, which varies: fiftyfold in the variance of the first, from -.9 to .9 in the correlation."""
    rng = np.random.default_rng(0)
    u = rng.uniform(-1, 1, (20_000, 2))
    L = np.zeros((20_000, 2, 2))
    L[:, 0, 0], L[:, 1, 0], L[:, 1, 1] = np.exp(u[:, 0]), 2 * u[:, 1], 1
    W = _covariance._whitening((L @ rng.normal(size=(20_000, 2, 1)))[..., 0], u)
    assert (W[:, 0, 1] == 0).all()
    white = W @ L @ L.transpose(0, 2, 1) @ W.transpose(0, 2, 1)
    assert np.sqrt(((white - np.eye(2)) ** 2).mean(axis=0)).max() < 0.12


@pytest.mark.parametrize(("factor", "scale"), [(1.5, 1.5), (1 / 1.5, 1 / 1.5), (5, 2), (0.2, 0.5)])
def test_covariances_weigh_by_their_variances_and_their_scale_is_found(factor, scale):
    """Of normal variables of variance `factor` where the metric is 1: 2 factor^2 is that of squares, of products half.

    Weights are of no more variance than that, and a scale is at most two, up or down.
    """
    rng = np.random.default_rng(0)
    white, u = factor**0.5 * rng.normal(size=(20_000, 2)), rng.uniform(size=(20_000, 2))
    weights, found = _covariance._weights(np.tile(np.eye(2), (20_000, 1, 1)), white, u)
    assert found == pytest.approx(scale, rel=0.03)
    trust = 1 / (1 + 4 * (scale / factor - 1) ** 2)
    for (a, b), variance in {(0, 0): 2, (1, 1): 2, (1, 0): 1, (0, 1): 1}.items():
        assert weights[:, a, b].mean() == pytest.approx(trust / variance / max(factor, 1) ** 2, rel=0.08)


def test_means_decide_how_large_the_metric_of_larger_statistics_is():
    """Of 1.8 f means are 1.8 times, and covariances 3.24 times those of f; in so short a range these tell more."""
    rng = np.random.default_rng(0)
    theta, covariance = rng.uniform(-0.5, 0.5, (3000, 2)), np.array([[1.0, 0.4], [0.4, 0.5]])
    x = theta @ covariance + rng.normal(size=(3000, 2)) @ np.linalg.cholesky(covariance).T
    fit = _learn._with_potential(x, theta, theta, 1, None, (4, 4), 1.8 * np.eye(2), False)
    metric = with_covariances(fit, x, theta, theta, 1).fisher_metric(inner(theta))
    np.testing.assert_allclose(metric.mean(axis=0) / 1.8, covariance, atol=0.1)


@pytest.mark.parametrize(("telling", "kept"), [(8, [8, 0, 1]), (0, [0, 1, 2])])
def test_components_are_what_predicts_and_what_varies_most(telling, kept):
    """Of nine orthogonal features the weakest tells theta: it comes first, then the two strongest; or the strongest."""
    rng = np.random.default_rng(0)
    z = np.linalg.qr(np.column_stack([np.ones(800), rng.normal(size=(800, 9))]))[0][:, 1:] * 800**0.5
    axes, _ = chosen_components(z * [5, 4, 3, 2.5, 2, 1.5, 1, 0.8, 0.5], z[:, [telling]], 3)
    np.testing.assert_allclose(np.abs(axes), np.eye(9)[kept].T, atol=1e-9)


def test_components_are_what_their_axes_give():
    """Of features in small units too. Of many, the first is a prediction that leaves the sample itself out."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 40)) * np.geomspace(1, 1e-8, 40)
    z -= z.mean(axis=0)
    axes, components = chosen_components(z[:, ::8], z[:, :1], 5)
    np.testing.assert_allclose(components, z[:, ::8] @ axes, atol=1e-9)
    axes, components = chosen_components(z, 7 * z[:, :1], 3)
    np.testing.assert_allclose(components, z @ axes, atol=0.02)


def test_loud_features_do_not_hide_those_that_tell():
    """There are ten times as many features as components, and all but two are noise of five times their deviation."""
    rng = np.random.default_rng(0)
    x, theta, covariance = normal_family(2000)
    posterior = ExponentialFamilyPosterior().fit(np.hstack([5 * rng.normal(size=(2000, 58)), x[:, :2]]), theta)
    np.testing.assert_allclose(posterior.fisher_metric(np.zeros(2)), covariance, atol=0.15)


@pytest.mark.parametrize(("num_noise", "low", "high"), [(100, 0.8, 1.05), (1000, 0.15, 0.6), (2500, 0.02, 0.2)])
def test_features_almost_as_many_as_samples_lose_and_never_invent(num_noise, low, high):
    """Counts of 50 tosses, whose metric is p (1 - p), are the weakest of many features."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-2, 2, (1500, 1))
    z = rng.binomial(50, 1 / (1 + np.exp(-theta))) / 50
    posterior = ExponentialFamilyPosterior(50)
    with pytest.warns(UserWarning, match="features are many") if num_noise > 100 else contextlib.nullcontext():
        posterior.fit(np.hstack([z, rng.normal(size=(1500, num_noise))]), theta)
    assert low < posterior.fisher_metric(np.zeros(1))[0, 0] / 0.25 < high


@pytest.mark.parametrize(("num", "num_features"), [(600, 1000), (600, 100), (1500, 100)])
def test_noise_alone_has_no_metric(num, num_features):
    rng = np.random.default_rng(3)
    theta, z = rng.uniform(-1, 1, (num, 1)), rng.normal(size=(num, num_features))
    with pytest.warns(UserWarning, match="features are many"):
        posterior = ExponentialFamilyPosterior().fit(z, theta)
    assert abs(posterior.fisher_metric(np.zeros(1))[0, 0]) < 0.15
    held_out = chosen_components(z - z.mean(axis=0), theta - theta.mean(), 2)[1][:, 0]
    assert abs(np.corrcoef(held_out, theta[:, 0])[0, 1]) < 4 / num**0.5


def test_constant_features_beside_rare_ones_are_left_out():
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, (2000, 1))
    rare = np.where(rng.random((2000, 2)) < 0.005, t + rng.normal(size=(2000, 2)), 0)
    fitted = ExponentialFamilyPosterior().fit(np.c_[rare, np.full(2000, 0.5)], t)
    assert np.isfinite(fitted.fisher_metric(np.zeros(1))).all()


def test_constant_features_change_nothing():
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, (1500, 1))
    z = np.hstack([theta + rng.normal(size=(1500, 1)), rng.normal(size=(1500, 99))])
    one, other = (
        ExponentialFamilyPosterior().fit(x, theta).fisher_metric(np.zeros(1)) for x in (z, np.c_[z, np.full(1500, 0.1)])
    )
    np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("num_features", [5, 300])
def test_ridge_is_that_of_scikit_learn(num_features):
    """Slopes by another program for the penalty that was chosen; leverages by leaving a sample out."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, num_features)) * rng.uniform(0.1, 10, num_features)
    x -= x.mean(axis=0)
    theta = x[:, :2] / x[:, :2].std(axis=0) + rng.normal(size=(200, 2))
    theta -= theta.mean(axis=0)
    slopes, leverage = ridge(x, theta)
    standard = x / x.std(axis=0)
    penalties = np.linalg.norm(standard, 2) ** 2 * np.geomspace(1e-8, 1e2, 61)
    found = [
        linear_model.Ridge(alpha, fit_intercept=False).fit(standard, theta).coef_.T / x.std(axis=0)[:, None]
        for alpha in penalties
    ]
    errors = [np.abs(slopes - each).max() / np.abs(slopes).max() for each in found]
    assert min(errors) < 1e-9
    without = linear_model.Ridge(penalties[np.argmin(errors)], fit_intercept=False).fit(standard[1:], theta[1:])
    held_out = ((x @ slopes)[0] - leverage[0] * theta[0]) / (1 - leverage[0])
    np.testing.assert_allclose(held_out, without.predict(standard[:1])[0], rtol=1e-6, atol=1e-9)


def test_bundles_and_the_posterior_of_a_normal_family():
    z, theta, covariance = normal_family()
    posterior = ExponentialFamilyPosterior().fit(z, theta)
    nodes = Grid((-1.9, -1.9), (1.9, 1.9), (40, 40))
    grid = nodes.points
    log_mass = posterior.log_posterior(z[:6], nodes, bundle=3).log_mass
    assert log_mass.shape == (2, 40, 40)
    np.testing.assert_allclose(np.exp(log_mass).sum(axis=(1, 2)), 1)
    exact = np.einsum("nk,xyk->nxy", z[:6, :2].reshape(2, 3, 2).sum(axis=1), grid)
    exact -= 1.5 * np.einsum("xyi,ij,xyj->xy", grid, covariance, grid)
    exact -= np.log(np.exp(exact).sum(axis=(1, 2), keepdims=True))
    gap = (np.exp(exact) * (exact - log_mass)).sum(axis=(1, 2))
    assert (gap < 0.2).all()


@pytest.mark.parametrize("bundle", [1, 3])
def test_score_is_that_of_the_exact_posterior(bundle):
    z, theta, covariance = normal_family()
    posterior = ExponentialFamilyPosterior().fit(z, theta)
    rng = np.random.default_rng(5)
    true = rng.uniform(-1.9, 1.9, (300, 2))
    x = np.repeat(true, bundle, axis=0) @ covariance
    x = x + rng.normal(size=x.shape) @ np.linalg.cholesky(covariance).T
    grid = Grid((-1.9, -1.9), (1.9, 1.9), (40, 40)).points

    def exponents(t):
        return x.reshape(300, bundle, 2).sum(axis=1) @ t.T - bundle * np.einsum("ni,ij,nj->n", t, covariance, t) / 2

    exact = np.diag(exponents(true)) - np.log(np.exp(exponents(grid.reshape(-1, 2))).mean(axis=1))
    fresh = np.hstack([x, rng.normal(size=x.shape)])
    assert abs(posterior.score(fresh, true, grid, bundle=bundle) - exact.mean()) < 0.05  # of 0.8 and 1.8


def test_errors_of_halves_cover_the_truth():
    z, theta, covariance = normal_family(3000)
    posterior = ExponentialFamilyPosterior(num_splits=6, resolution=4).fit(z, theta)
    points = inner(theta, 100)
    error = posterior.standard_error("fisher_metric", points)
    assert error.shape == (100, 2, 2)
    pull = np.abs(posterior.fisher_metric(points) - covariance) / error
    assert 0.4 < np.median(pull) < 1.5  # 0.67 of a normal error
    assert np.median(error) < 0.2


def test_ising_32_against_the_exact_log_partition():
    rng = np.random.default_rng(7)
    T, H = rng.uniform(2.6, 5, 4000), rng.uniform(-1, 1, 4000)
    batch = ising.sample(T, H, size=32, seed=7)
    posterior = ExponentialFamilyPosterior(
        1024, ising_patterns, lambda p: np.column_stack([1 / p[:, 0], p[:, 1] / p[:, 0]])
    ).fit(batch, np.column_stack([T, H]))
    grid = Grid((2.9, -0.8), (4.6, 0.8), (4, 4))
    T, H = grid.points.reshape(-1, 2).T
    theta = np.column_stack([1 / T, H / T])
    truth = ising.log_partition(T, H, size=32)
    assert np.std(affine_rest(posterior.log_z(theta) - truth, theta)) < 0.1 * np.std(affine_rest(truth, theta))
    assert posterior.log_posterior(batch, grid).log_mass.shape == (4000, 4, 4)


def test_a_first_order_line_is_found():
    """A coin whose side is the sign of t_1 - t_2 + 0.1, beside two normal variables: the line is where it turns."""
    rng = np.random.default_rng(3)
    theta = rng.uniform(-1, 1, (4000, 2))
    side = np.sign(theta[:, 0] - theta[:, 1] + 0.1)
    z = np.column_stack([theta + 0.1 * rng.normal(size=(4000, 2)), 5 * side])
    posterior = ExponentialFamilyPosterior(100).fit(z, theta)
    kink = posterior.kink_
    sign = np.sign(kink.normal[0])
    np.testing.assert_allclose(sign * kink.normal, [0.5**0.5, -(0.5**0.5)], atol=0.002)
    assert abs(sign * kink.offset + 0.1 / 2**0.5) < 0.002
    # Of 4,000 points in a square of side two about ten are within .001 of the line.
    assert 1e-4 < kink.width < 0.01
    # Means go from one side to the other within the width, by way of their middle; their slope is the metric.
    on = kink.offset * kink.normal + 0.4 * np.array([-kink.normal[1], kink.normal[0]])
    far, near = 5 * kink.width * kink.normal, 1e-4 * kink.width * kink.normal
    below, above = posterior.mean(np.stack([on - far, on + far]))
    middle = posterior.mean(on)
    np.testing.assert_allclose(middle, (below + above) / 2, atol=0.01 * np.linalg.norm(above - below))
    slope = np.subtract(*posterior.mean(np.stack([on + near, on - near]))) / 2e-4 / kink.width
    np.testing.assert_allclose(posterior.fisher_metric(on) @ kink.normal, slope, rtol=1e-5)


def test_a_jump_of_one_feature_among_loud_ones_is_found():
    """In the linear prediction of the parameters: the spread of the others hides it."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, (4000, 2))
    z = np.column_stack([np.sign(t[:, 0] - 0.1) + 0.05 * rng.normal(size=4000), 2 * rng.normal(size=(4000, 10))])
    kink = find_kink(z, t, t)
    np.testing.assert_allclose(kink.normal * np.sign(kink.normal[0]), [1, 0], atol=0.01)
    assert kink.offset * kink.normal[0] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("case", ["circle", "anywhere"])
def test_jumps_that_no_hyperplane_divides_are_no_kink(case):
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, (4000, 2))
    side = (t**2).sum(axis=1) > 0.4 if case == "circle" else rng.random(4000) < 0.02
    assert find_kink(np.column_stack([t, 5 * side]) + 0.1 * rng.normal(size=(4000, 3)), t, t) is None


def test_a_line_is_as_wide_as_samples_are_mixed():
    """Sides with odds exp(2 s / width), width .02."""
    rng = np.random.default_rng(5)
    widths = []
    for _ in range(4):
        t = rng.uniform(-1, 1, (4000, 2))
        odds = np.exp(2 * (t[:, :1] - t[:, 1:]) / 2**0.5 / 0.02)
        side = np.where(rng.random((4000, 1)) < odds / (1 + odds), 1.0, -1.0)
        widths.append(find_kink(5 * side + 0.1 * rng.normal(size=(4000, 1)), t, t).width)
    assert 0.014 < np.mean(widths) < 0.028


def test_fluctuations_that_no_parameter_moves_are_no_information():
    """x ~ N(t, 1) for t > 0, where f = x; for t < 0 x only fluctuates, about 0, and tells nothing of t."""
    rng = np.random.default_rng(4)
    t = rng.uniform(-2, 2, (20_000, 1))
    x = np.where(t > 0, t + rng.normal(size=t.shape), 0.5 * rng.normal(size=t.shape))
    posterior = ExponentialFamilyPosterior(kink=False).fit(x, t)
    # 1 is right; with the variance of 1/4 on the left taken for information it would be 0.75 to 0.79.
    assert 0.83 < posterior.directions_[0, 0] < 1.1


@pytest.mark.parametrize("num", [1, 5, 20])
def test_a_feature_of_a_few_samples_tells_nothing_of_the_others(num):
    """It is 1 for those of largest t alone, so that no finite weight of it would be the likeliest."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, (4000, 1))
    rare = t >= np.sort(t, axis=0)[-num]
    posterior = ExponentialFamilyPosterior().fit(np.hstack([t + rng.normal(size=t.shape), rare]), t)
    metric = posterior.fisher_metric(np.linspace(-1.5, 1.5, 7)[:, None])
    np.testing.assert_allclose(metric[:, 0, 0], 1, atol=0.05)
    assert abs(posterior.directions_[1, 0]) < 10  # nats for having it


def test_known_statistics_leave_only_phi_to_learn():
    rng = np.random.default_rng(5)
    theta = rng.uniform(-2, 2, (4000, 2))
    chance = 1 / (1 + np.exp(-theta))
    posterior = ExponentialFamilyPosterior(50, sufficient=True).fit(rng.binomial(50, chance) / 50, theta)
    np.testing.assert_allclose(posterior.directions_, np.eye(2), atol=1e-6)
    points = inner(theta)
    p = 1 / (1 + np.exp(-points))
    np.testing.assert_allclose(posterior.mean(points) - posterior.mean(points).mean(0), p - p.mean(0), atol=0.02)
    with pytest.raises(ValueError, match="features must be 2 to be the sufficient statistics, got 3"):
        ExponentialFamilyPosterior(sufficient=True).fit(rng.normal(size=(4000, 3)), theta)


def test_ising_metric_is_the_covariance_of_energy_and_magnetisation():
    """At 20 points, against independent samples, within five standard errors of both, two in the mean."""
    rng = np.random.default_rng(8)
    T, H = rng.uniform(2.6, 5, 6000), rng.uniform(-1, 1, 6000)
    posterior = ExponentialFamilyPosterior(
        1024, ising_patterns, lambda p: np.column_stack([1 / p[:, 0], p[:, 1] / p[:, 0]]), num_splits=16
    ).fit(ising.sample(T, H, size=32, seed=8), np.column_stack([T, H]))
    T, H = np.repeat(rng.uniform(2.9, 4.6, 20), 1000), np.repeat(rng.uniform(-0.8, 0.8, 20), 1000)
    batch = ising.sample(T, H, size=32, seed=9)
    f = np.column_stack([-np.asarray(batch.bond_energy()), np.asarray(batch.magnetization())]).reshape(20, 1000, 2)
    f = f - f.mean(axis=1, keepdims=True)
    products = f[..., :, None] * f[..., None, :] / 1024  # per site
    theta = np.column_stack([1 / T, H / T])[::1000]
    error = np.hypot(posterior.standard_error("fisher_metric", theta), products.std(axis=1) / 1000**0.5)
    pull = np.abs(posterior.fisher_metric(theta) - products.mean(axis=1)) / error
    assert (pull < 5).all(), pull.max()
    assert np.sqrt((pull**2).mean()) < 2
    assert error.max() < 0.5 * np.trace(products.mean(axis=1), axis1=1, axis2=2).max()  # so that 5 errors say something


def test_posteriors_need_more_than_log_z():
    """Pairs from all over and the calibrated normaliser: nats a sample, of a chain that is no exponential family."""
    rng = np.random.default_rng(9)
    rates = rng.uniform(0.05, 0.95, (5000, 2))
    z = tasep_profile(tasep.sample(*rates.T, num_sites=1024, seed=9), num_densities=17)
    posterior = ExponentialFamilyPosterior(1024, to_natural=lambda p: np.log(p / (1 - p))).fit(z[:4000], rates[:4000])
    inside = ((rates > 0.1) & (rates < 0.9)).all(axis=1)[4000:]
    held_out = z[4000:][inside], rates[4000:][inside], Grid((0.1, 0.1), (0.9, 0.9), (30, 30)).points
    with_both = posterior.score(*held_out)
    posterior._posterior_fit = posterior._fit
    assert with_both > posterior.score(*held_out) + 0.1


def test_mixed_statistics_are_set_right_by_their_curl():
    """As far as 5,000 samples outweigh the pairs, which are trusted to a fiftieth."""
    rng = np.random.default_rng(10)
    theta = rng.uniform(-2, 2, (5000, 2))
    z = rng.binomial(50, 1 / (1 + np.exp(-theta))) / 50
    z = z - z.mean(axis=0)
    mixed = np.array([[1.0, 0.0], [0.4, 1.0]])  # f_1 + 0.4 f_2 stands for f_1
    kept, right = (
        _learn._with_potential(z, theta, theta, 50, None, _learn._intervals(None, 5000, 2), 50 * mixed, allowed)
        for allowed in (False, True)
    )
    np.testing.assert_allclose(kept.directions, mixed)
    assert np.abs(right.directions - np.eye(2)).max() < 0.3


def test_mixing_and_potential_in_units_of_either_parameter():
    """Powers of 1024, in which parameters are measured, change no digit; ten makes components weigh differently."""
    rng = np.random.default_rng(10)
    theta = rng.uniform(-2, 2, (3000, 2))
    chance = 1 / (1 + np.exp(-theta))
    means = (chance - chance.mean(axis=0)) @ np.array([[1.0, 0.0], [0.4, 1.0]])  # of the first, 0.4 of the second
    noisy = means + 0.01 * rng.normal(size=means.shape)

    def fitted(unit):
        return fit_potential(Basis.over(theta * unit, None, 6), theta * unit, noisy / unit, means / unit, 1.0)

    c, B = fitted(np.ones(2))
    np.testing.assert_allclose(B, [[0, -0.4], [0, 0]], atol=0.05)  # f + B E[f|t] has no curl
    other, stretched = fitted(unit := np.array([1.0, 2.0**20]))
    np.testing.assert_allclose(other, c, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(stretched, B * unit / unit[:, None], rtol=1e-6)
    for unit in np.array([[1.0, 10.0], [10.0, 1.0]]):
        np.testing.assert_allclose(fitted(unit)[1] / unit * unit[:, None], [[0, -0.4], [0, 0]], atol=0.1)


def test_statistics_of_a_constant_metric_are_not_mixed():
    """Any symmetric metric would be one of their mixtures."""
    z, theta, covariance = normal_family(3000)
    _, B = fit_potential(Basis.over(theta, None, 6), theta, z[:, :2], theta @ covariance, 0.1)
    assert np.abs(B).max() < 0.03


def test_robust_potentials_are_not_led_by_a_few_samples():
    """Of f about sin(3 theta) one in fifty is a hundred too large: means would be two too large throughout."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, (2000, 1))
    truth = np.sin(3 * theta)
    f = truth + 0.1 * rng.normal(size=theta.shape) + 100 * (np.arange(2000)[:, None] % 50 == 0)
    basis = Basis.over(theta, None, 6)
    means = [
        basis.gradient(theta, 0) @ fit_potential(basis, theta, f, None, 0.0, robust)[0] for robust in (False, True)
    ]
    plain, robust = (np.abs(each - truth[:, 0]).mean() for each in means)
    assert robust < 0.05 < 1 < plain


def test_rare_events_and_skewed_noise_leave_the_mean_unbiased():
    """x ~ Exp(rate): f = x, t = -rate, grad log Z = 1 / rate; its noise has a long tail on one side."""
    rng = np.random.default_rng(11)
    rate = rng.uniform(0.3, 3, (20_000, 1))
    posterior = ExponentialFamilyPosterior(sufficient=True, kink=False).fit(rng.exponential(1 / rate), -rate)
    points = np.linspace(0.5, 2.8, 20)[:, None]
    error = posterior.mean(-points)[:, 0] - 1 / points[:, 0]
    assert np.std(error) < 0.04  # of a range of 1.6
    assert abs(posterior.log_z(-rate).mean()) < 1e-9  # the affine part
    assert abs(posterior.mean(-rate).mean()) < 1e-9


@pytest.mark.parametrize("design", ["41 values", "7 x 7", "3 values of one", "piled up at the bounds"])
def test_parameters_may_repeat(design):
    rng = np.random.default_rng(12)
    axis = np.linspace(-1, 1, 7)
    theta = {
        "41 values": np.repeat(np.linspace(-2, 2, 41), 100)[:, None],
        "7 x 7": np.repeat(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), 100, axis=0),
        "3 values of one": np.column_stack([rng.uniform(-1, 1, 4000), rng.integers(-1, 2, 4000)]),
        "piled up at the bounds": np.clip(rng.normal(size=(4000, 1)), -1, 1),
    }[design]
    posterior = ExponentialFamilyPosterior().fit(theta + rng.normal(size=theta.shape), theta)
    assert posterior.kink_ is None
    points = np.concatenate([posterior.box_, 0.5 * posterior.box_])
    np.testing.assert_allclose(posterior.fisher_metric(points), np.eye(theta.shape[1])[None].repeat(4, 0), atol=0.35)
    np.testing.assert_allclose(
        LogPartition.from_posterior(posterior).log_z(points), posterior.log_z(points), atol=1e-11
    )


def test_a_step_in_one_dimension_is_found():
    rng = np.random.default_rng(13)
    t = rng.uniform(-1, 1, (4000, 1))
    kink = ExponentialFamilyPosterior(10).fit(5 * np.sign(t - 0.2) + t + 0.1 * rng.normal(size=t.shape), t).kink_
    assert abs(kink.offset / kink.normal[0] - 0.2) < 0.01


def test_a_fit_that_fails_leaves_the_one_before():
    posterior = ExponentialFamilyPosterior(resolution=3).fit(Z, THETA)
    before, box = posterior.statistics(Z[:3]), posterior.box_
    with pytest.raises(ValueError, match="samples must leave doubt between neighbouring parameters, got log odds of"):
        posterior.fit(np.hstack([THETA, THETA]) * 3, THETA * 2)
    np.testing.assert_array_equal(posterior.statistics(Z[:3]), before)
    np.testing.assert_array_equal(posterior.box_, box)


def test_one_point_and_none():
    posterior = ExponentialFamilyPosterior(resolution=3, num_splits=1).fit(Z, THETA)
    one, none = np.zeros(2), np.empty((0, 2))
    for points, batch in ((one, ()), (none, (0,)), (np.zeros((4, 5, 2)), (4, 5))):
        assert posterior.log_z(points).shape == posterior.standard_error("log_z", points).shape == batch
        assert posterior.mean(points).shape == (*batch, 2)
        assert posterior.fisher_metric(points).shape == (*batch, 2, 2)


def test_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")
    posterior = ExponentialFamilyPosterior(resolution=3, num_splits=1).fit(torch.tensor(Z), torch.tensor(THETA))
    points = THETA[:4] / 2
    for function in (
        posterior.log_z, posterior.mean, posterior.fisher_metric, lambda x: posterior.standard_error("mean", x)
    ):  # fmt: skip
        got = function(torch.tensor(points, dtype=torch.float32))
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got, function(points), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(posterior.statistics(torch.tensor(Z[:3])), posterior.statistics(Z[:3]))
    assert isinstance(posterior.statistics(torch.tensor(Z[:3])), torch.Tensor)


def test_features_of_known_configurations():
    up = ising.pack(np.ones((2, 8, 8)))
    assert (ising_patterns(up)[:, -1] == 1).all()
    np.testing.assert_array_equal(ising_patterns(up, backend="reference"), ising_patterns(up))
    full = tasep_profile(tasep.pack(np.ones((1, 20))), 4, 3, 2)
    assert full[0].tolist() == [0, 0, 1, 0, 0, 0, 1]
    assert np.isclose(tasep_profile(tasep.pack([[0, 1] * 10]), 5, 3, 1)[0, :3].sum(), 1)


def test_features_of_many_are_those_of_a_few_at_a_time(monkeypatch):
    lattices, chains = ising.sample(3.0, 0.1, 8, num=5), tasep.sample(0.3, 0.4, 12, num=5)
    whole = ising_patterns(lattices, 2, 2), tasep_profile(chains, 3, 4, 2)
    monkeypatch.setattr(patterns, "_CHUNK", 2)
    for found, expected in zip((ising_patterns(lattices, 2, 2), tasep_profile(chains, 3, 4, 2)), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


Z, THETA, _ = normal_family(400)


@pytest.mark.parametrize(
    ("samples", "parameters", "message"),
    [
        (np.where(Z[0, 0] == Z, np.nan, Z), THETA, "features must be finite, got nan"),
        (Z[:, :, None], THETA, r"features must have shape \[n, num_features\]"),
        (Z, THETA[:50], "parameters must be one row for each of the 400 samples, got 50"),
        (Z[:50], THETA[:50], "samples must number at least 200 for 2 parameters, got 50. Draw more samples."),
        (Z, THETA * [1, 0], "parameters must vary, got the constant"),
        (Z * 0, THETA, "features must vary, got the constant"),
        (Z, THETA[:, [0, 0]], "parameters must not be linearly dependent"),
        (Z[:, :0], THETA, "samples and parameters must have columns, got 0 and 2"),
        (Z, THETA[:, :, None], r"parameters must have shape \[n, dim\]"),
    ],
)
def test_bad_samples_are_refused(samples, parameters, message):
    with pytest.raises(ValueError, match=message):
        ExponentialFamilyPosterior().fit(samples, parameters)


def test_points_of_one_parameter_need_no_axis_of_their_own():
    """x ~ N(t, 1): the metric is 1, and the mean t up to a constant."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, 2000)
    posterior = ExponentialFamilyPosterior(num_splits=1, kink=False).fit(t + rng.normal(size=2000), t)
    line = np.linspace(-1, 1, 7)
    np.testing.assert_allclose(posterior.fisher_metric(line), np.ones((7, 1, 1)), atol=0.2)
    np.testing.assert_allclose(np.diff(posterior.mean(line)[:, 0]), np.diff(line), atol=0.05)
    for function in (posterior.log_z, lambda theta: posterior.standard_error("mean", theta)):
        np.testing.assert_array_equal(function(line), function(line[:, None]))
        np.testing.assert_array_equal(function([0.5]), function([[0.5]])[0])
    assert posterior.log_z([]).shape == (0,)
    with pytest.raises(ValueError, match=r"theta must have shape \[\*batch, 1\], got \(7, 2\)"):
        posterior.log_z(np.zeros((7, 2)))


def test_bad_points_are_refused():
    with pytest.raises(ValueError, match="fit must be called first, got ExponentialFamilyPosterior"):
        ExponentialFamilyPosterior().log_z([0.0, 0.0])
    posterior = ExponentialFamilyPosterior(resolution=3).fit(Z, THETA)
    with pytest.raises(ValueError, match="theta must be within"):
        posterior.log_z([5.0, 0.0])
    with pytest.raises(ValueError, match=r"theta must have shape \[\*batch, 2\]"):
        posterior.mean(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="bundle must divide the number of samples, got 3 for 4"):
        posterior.log_posterior(Z[:4], Grid(THETA.min(axis=0), THETA.max(axis=0), (3, 3)), bundle=3)
    with pytest.raises(ValueError, match="samples must have 4 features as in fit, got 2"):
        posterior.statistics(Z[:, :2])
    with pytest.raises(ValueError, match="num_splits must be >= 1 for errors, got 0"):
        posterior.standard_error("log_z", THETA)
    with pytest.raises(ValueError, match="width must be >= 1 and <= 5"):
        ising_patterns(ising.pack(np.ones((1, 8, 8))), 3, 6)
    with pytest.raises(TypeError, match="batch must be a TasepBatch, got int"):
        tasep_profile(3)


def test_one_feature_may_be_a_vector():
    rng = np.random.default_rng(0)
    theta = rng.uniform(-2, 2, 500)
    x = theta + rng.normal(size=500)
    one, other = (ExponentialFamilyPosterior().fit(z, theta) for z in (x, x[:, None]))
    assert (one.fisher_metric([0.5]) == other.fisher_metric([0.5])).all()
    batch = ising.sample(3.0, 0.1, 16, num=500)
    with pytest.raises(TypeError, match=r"samples must be features, got IsingBatch\. Pass features="):
        ExponentialFamilyPosterior().fit(batch, theta)


@pytest.mark.parametrize("case", ["a kink", "splits", "five dimensions", "functions"])
def test_what_is_saved_comes_back(case, tmp_path):
    rng = np.random.default_rng(0)
    dim, step, noise = 5 if case == "five dimensions" else 1, 5 * (case == "a kink"), 0.1 if case == "a kink" else 1
    theta = rng.uniform(-1, 1, (2000, dim))
    z = step * np.sign(theta) + theta + noise * rng.normal(size=theta.shape)
    functions = {"features": lambda x: x / 2, "to_natural": lambda p: 3 * p} if case == "functions" else {}
    posterior = ExponentialFamilyPosterior(10, num_splits=2 if case == "splits" else 0, seed=3, **functions)
    posterior.fit(z, theta).save(tmp_path / "new" / "file.safetensors")
    assert (posterior.kink_ is None) == (case != "a kink")
    again = ExponentialFamilyPosterior.load(tmp_path / "new" / "file.safetensors", **functions)
    points = 0.5 * theta[:50]
    same = partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13)
    for name in ("log_z", "mean", "fisher_metric"):
        same(getattr(again, name)(points), getattr(posterior, name)(points))
        if case == "splits":
            same(again.standard_error(name, points), posterior.standard_error(name, points))
    same(again.statistics(z), posterior.statistics(z))
    same(again.score(z[:50], theta[:50], points), posterior.score(z[:50], theta[:50], points))
    plain = [{k: v for k, v in vars(x).items() if isinstance(v, bool | int | float | None)} for x in (posterior, again)]
    assert plain[0] == plain[1]
    same(again.box_, posterior.box_)
    same(*(LogPartition.from_posterior(each).log_z(points) for each in (again, posterior)))


def test_loading_refuses(tmp_path):
    rng = np.random.default_rng(0)
    theta = rng.uniform(-2, 2, 500)
    with pytest.raises(ValueError, match="fit must be called first"):
        ExponentialFamilyPosterior().save(tmp_path / "file")
    ExponentialFamilyPosterior(features=lambda x: x / 2).fit(theta + rng.normal(size=500), theta).save(
        tmp_path / "file"
    )
    with pytest.raises(ValueError, match="features must be the function that the posterior was fitted with, got None"):
        ExponentialFamilyPosterior.load(tmp_path / "file")
    with pytest.raises(ValueError, match="to_natural must be None, as in the fit"):
        ExponentialFamilyPosterior.load(tmp_path / "file", features=lambda x: x / 2, to_natural=lambda p: p)
    with pytest.raises(FileNotFoundError, match=r"path must be a file written by ExponentialFamilyPosterior\.save"):
        ExponentialFamilyPosterior.load(tmp_path / "none")
    content = bytearray((tmp_path / "file").read_bytes())
    content[-3] ^= 1
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=r"path must be a whole file of ExponentialFamilyPosterior\.save"):
        ExponentialFamilyPosterior.load(tmp_path / "file", features=lambda x: x / 2)
