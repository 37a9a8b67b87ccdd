"""The exact references of the open TASEP against its master equation, rationals, and formulas in many digits."""

from fractions import Fraction
from math import comb

import mpmath
import numpy as np
import pytest
import torch

from hessfast.tasep.enumeration import net_flow, occupations, stationary_law
from hessfast.tasep.log_partition import current_limit, log_partition, log_partition_derivatives, phase
from hessfast.tasep.profile import current, density_profile

# Both edges, the coexistence line, the line of independent sites, the triple point, every phase.
RATES = [
    (1, 1),
    (1, "1/3"),
    ("1/3", 1),
    ("1/4", "1/4"),
    ("1/4", "3/4"),
    ("1/2", "1/2"),
    ("3/4", "7/8"),
    ("1/8", "3/16"),
]
RATES = [(Fraction(alpha), Fraction(beta)) for alpha, beta in RATES]
# Next to a = b, a = 0 and a = 1, where the formulas have removable singularities.
NEAR = [(0.3, 0.3 + 1e-9), (0.5, 0.5 - 1e-12), (1 - 1e-13, 1 - 1e-13), (1 - 1e-9, 1e-3), (0.2, 0.7), (0.999, 0.4)]
POINTS = [(float(alpha), float(beta)) for alpha, beta in RATES] + NEAR


def dehp_log_z(alpha, beta, M):
    """The sum of Derrida, Evans, Hakim and Pasquier (1993), in which no multiplicity N_M(s) occurs."""
    x, y = 1 / mpmath.mpf(beta), 1 / mpmath.mpf(alpha)
    coefficient, total = mpmath.mpf(1), mpmath.mpf(0)
    xp, yp = x ** (M + 1), y ** (M + 1)
    for p in range(M, 0, -1):
        total += coefficient * ((p + 1) * x**p if x == y else (xp - yp) / (x - y))
        coefficient *= mpmath.mpf((p - 1) * (2 * M - p)) / (p * (M - p + 1))
        xp, yp = xp / x, yp / y
    return mpmath.log(total)


def exact_derivatives(alpha, beta, M, coordinates):
    """Gradient and Hessian of log Z_M, from the sum over both exponents in many digits; fugacities may be 0."""
    alpha, beta = mpmath.mpf(alpha), mpmath.mpf(beta)
    a, b = (1 - alpha) / alpha, (1 - beta) / beta
    z = {key: mpmath.mpf(0) for key in [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]}
    for s in range(M + 1):
        weight = mpmath.mpf(comb(2 * M + 2, M - s) * (s + 1)) / (M + 1)
        for e in range(s + 1):
            for i, j in z:
                if e >= i and s - e >= j:
                    z[i, j] += weight * mpmath.ff(e, i) * a ** (e - i) * mpmath.ff(s - e, j) * b ** (s - e - j)
    first = np.array([z[1, 0], z[0, 1]]) / z[0, 0]
    second = np.array([[z[2, 0], z[1, 1]], [z[1, 1], z[0, 2]]]) / z[0, 0] - np.outer(first, first)
    slope = bend = np.array([a, b])
    if coordinates == "rates":
        slope, bend = -(np.array([alpha, beta]) ** -2), 2 * np.array([alpha, beta]) ** -3
    return (slope * first).astype(float), (second * np.outer(slope, slope) + np.diag(bend * first)).astype(float)


@pytest.mark.parametrize("M", [1, 2, 3, 5])
@pytest.mark.parametrize(("alpha", "beta"), RATES)
def test_master_equation(alpha, beta, M):
    law = stationary_law(alpha, beta, M)
    assert law.sum() == 1
    assert (law > 0).all()
    assert (net_flow(law, alpha, beta, M) == 0).all()
    floats = stationary_law(float(alpha), float(beta), M)
    np.testing.assert_allclose(floats, law.astype(float), rtol=1e-14)

    sites = occupations(M).astype(object)
    # The empty configuration weighs alpha^-M in Z_M.
    assert log_partition(float(alpha), float(beta), M) == pytest.approx(
        float(mpmath.log(1 / (alpha**M * law[0]))), abs=1e-14 * M
    )
    density = (law[:, None] * sites).sum(0)
    np.testing.assert_allclose(density_profile(float(alpha), float(beta), M), density.astype(float), rtol=1e-14)
    assert current(float(alpha), float(beta), M) == pytest.approx(float(alpha * (1 - density[0])), rel=1e-14, abs=0)
    bonds = [(law * sites[:, i] * (1 - sites[:, i + 1])).sum() for i in range(M - 1)]
    assert set(bonds) <= {alpha * (1 - density[0])} == {beta * density[-1]}


def test_master_equation_refuses():
    with pytest.raises(ValueError, match=r"num_sites must be >= 1 and <= 10, got 11"):
        stationary_law(0.5, 0.5, 11)
    with pytest.raises(ValueError, match=r"exit_rate must be in \(0, 1\], got 0"):
        stationary_law(0.5, 0, 2)


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (0.25, 0.25), (1e-6, 0.5), *NEAR[1::2]])
def test_log_partition_of_16384_sites(alpha, beta):
    with mpmath.workdps(40):
        error = float(log_partition(alpha, beta, 16384) - dehp_log_z(alpha, beta, 16384))
    assert abs(error) < 2e-11


@pytest.mark.parametrize("M", [1, 2, 17, 150])
def test_log_partition_vectorised(M):
    alpha, beta = np.array(POINTS).T
    table = log_partition(alpha[:, None], beta, M)
    assert table.shape == (len(alpha), len(beta))
    with mpmath.workdps(60):
        exact = [[float(dehp_log_z(x, y, M)) for y in beta[:6]] for x in alpha]
    np.testing.assert_allclose(table[:, :6], exact, rtol=0, atol=2e-12)
    np.testing.assert_allclose(table, log_partition(beta[:, None], alpha, M).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coordinates", ["log_fugacities", "rates"])
@pytest.mark.parametrize("M", [1, 2, 3, 12])
def test_derivatives(M, coordinates):
    result = log_partition_derivatives(*np.array(POINTS).T, M, with_respect_to=coordinates)
    with mpmath.workdps(60):
        exact = [exact_derivatives(alpha, beta, M, coordinates) for alpha, beta in POINTS]
    np.testing.assert_allclose(result.gradient, [gradient for gradient, _ in exact], rtol=1e-13)
    np.testing.assert_allclose(result.hessian, [hessian for _, hessian in exact], rtol=1e-11)
    np.testing.assert_array_equal(result.value, log_partition(*np.array(POINTS).T, M))


@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.7), (0.3, 0.3 + 1e-9), (0.8, 0.7), (0.999, 0.5)])
def test_derivatives_of_a_long_chain(alpha, beta):
    """Against central differences in 60 digits; M is beyond the window of the sum."""
    M, h = 1000, mpmath.mpf("1e-15")
    result = log_partition_derivatives(alpha, beta, M, with_respect_to="rates")
    with mpmath.workdps(60):
        z = {
            (i, j): dehp_log_z(mpmath.mpf(alpha) + i * h, mpmath.mpf(beta) + j * h, M)
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        }
        gradient = [(z[1, 0] - z[-1, 0]) / (2 * h), (z[0, 1] - z[0, -1]) / (2 * h)]
        mixed = (z[1, 1] - z[1, -1] - z[-1, 1] + z[-1, -1]) / (4 * h**2)
        curvature = [(z[1, 0] - 2 * z[0, 0] + z[-1, 0]) / h**2, (z[0, 1] - 2 * z[0, 0] + z[0, -1]) / h**2]
    np.testing.assert_allclose(result.gradient, np.array(gradient, float), rtol=1e-11)
    hessian = np.array([[curvature[0], mixed], [mixed, curvature[1]]], float)
    np.testing.assert_allclose(result.hessian, hessian, rtol=0, atol=1e-10 * abs(hessian).max())


@pytest.mark.parametrize("alpha", [1e-100, 1e-160])
def test_derivatives_in_tiny_rates(alpha):
    beta = 0.5  # one site: Z = 1/alpha + 1/beta
    found = log_partition_derivatives(alpha, beta, 1, with_respect_to="rates")
    np.testing.assert_allclose(found.gradient, [-1 / alpha, -4 * alpha], rtol=1e-13)
    curvature = alpha**-2 if alpha > 1e-150 else np.inf
    np.testing.assert_allclose(found.hessian, [[curvature, -4], [-4, 16 * alpha]], rtol=1e-13)


def test_derivatives_beside_rates_of_one():
    """One site holds one exponent at most: rounding of pairs of them would be far more than what is left."""
    alpha, beta = 1 - 1e-9, 1 - 1.5e-9
    found = log_partition_derivatives(alpha, beta, 1, with_respect_to="rates")
    with mpmath.workdps(60):
        gradient, hessian = exact_derivatives(alpha, beta, 1, "rates")
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-13)
    np.testing.assert_allclose(found.hessian, hessian, rtol=1e-11)


def test_log_partition_is_convex_in_the_log_fugacities():
    rates = np.linspace(0.02, 0.98, 9)
    hessian = log_partition_derivatives(rates[:, None], rates, 300).hessian
    assert (np.linalg.eigvalsh(hessian) > 0).all()


@pytest.mark.parametrize(("alpha", "beta"), [*POINTS[:-1], (0.1, 0.02)])
def test_profile_and_current_of_16384_sites(alpha, beta):
    M, n = 16384, 30
    profile, rate = density_profile(alpha, beta, M), current(alpha, beta, M)
    mirror = 1 - density_profile(beta, alpha, M)[::-1]  # particles and holes, entry and exit exchanged
    np.testing.assert_allclose(profile, mirror, rtol=0, atol=2e-11)
    assert profile[0] == pytest.approx(1 - rate / alpha, abs=2e-11)
    assert profile[-1] == pytest.approx(rate / beta, rel=2e-11)
    assert np.log(rate) == pytest.approx(log_partition(alpha, beta, M - 1) - log_partition(alpha, beta, M), abs=2e-11)
    # The double sum of Derrida et al. at the site with n sites to its right.
    log_z = np.array([log_partition(alpha, beta, M - 1 - p) for p in range(n + 1)]) - log_partition(alpha, beta, M)
    catalan = sum(comb(2 * p, p) / (p + 1) * np.exp(log_z[p]) for p in range(n))
    power, tail = mpmath.mpf(beta) ** -(n + 1), mpmath.mpf(0)
    for p in range(n + 1, 1, -1):
        tail += (p - 1) * mpmath.factorial(2 * n - p) / (mpmath.factorial(n) * mpmath.factorial(n + 1 - p)) * power
        power *= beta
    assert profile[M - 1 - n] == pytest.approx(catalan + float(tail * mpmath.exp(log_z[n])), abs=2e-11)


def test_long_chains_tend_to_their_phase():
    points = {
        (0.2, 0.7): "low density",
        (0.7, 0.2): "high density",
        (0.3, 0.3): "coexistence",
        (0.6, 0.9): "maximal current",
    }
    for (alpha, beta), name in points.items():
        assert phase(alpha, beta) == name
        limit = current_limit(alpha, beta)
        assert current(alpha, beta, 10**5) == pytest.approx(limit, rel=3e-5)
        assert log_partition(alpha, beta, 10**5) / 10**5 == pytest.approx(-np.log(limit), abs=3e-4)
    assert list(phase([0.5, 0.5, 1], [0.5, 0.4, 1])) == ["maximal current", "high density", "maximal current"]
    assert list(phase([0.5, 0.7], [0.7, 0.5])) == ["maximal current", "maximal current"]
    middle = [density_profile(alpha, beta, 4000)[2000] for alpha, beta in points]
    np.testing.assert_allclose(middle, [0.2, 0.8, 0.5, 0.5], atol=1e-3)


def test_shapes_and_tensors():
    assert log_partition(0.5, 0.5, 3).shape == ()
    assert log_partition(np.empty((0, 2)), 0.5, 3).shape == (0, 2)
    assert density_profile(np.full((2, 1), 0.5), np.full(3, 0.5), 4).shape == (2, 3, 4)
    assert log_partition_derivatives([0.5, 0.4], 0.5, 3).hessian.shape == (2, 2, 2)
    rates = torch.tensor([0.3, 1.0])
    for function in (log_partition, current, density_profile):
        value = function(rates, 0.5, 7)
        assert value.dtype == torch.float64
        np.testing.assert_array_equal(value.numpy(), function(rates.numpy(), 0.5, 7))


@pytest.mark.parametrize("function", [log_partition, log_partition_derivatives, current, density_profile])
def test_refusals(function):
    with pytest.raises(ValueError, match=r"entry_rate must be in \(0, 1\], got 0.0. At rate 0 no particle ever enters"):
        function([0.5, 0], 0.5, 4)
    with pytest.raises(ValueError, match=r"exit_rate must be in \(0, 1\], got 1.5"):
        function(0.5, 1.5, 4)
    with pytest.raises(ValueError, match=r"entry_rate must be in \(0, 1\], got 1e-310. Below 2.2e-308 .* overflows"):
        function(1e-310, 0.5, 4)
    with pytest.raises(ValueError, match="exit_rate must be finite, got nan"):
        function(0.5, float("nan"), 4)
    with pytest.raises(TypeError, match="entry_rate must be a number"):
        function("fast", 0.5, 4)
    with pytest.raises(ValueError, match="must have shapes that broadcast"):
        function(np.full(2, 0.5), np.full(3, 0.5), 4)
    with pytest.raises(ValueError, match="num_sites must be >= 1"):
        function(0.5, 0.5, 0)
    with pytest.raises(TypeError, match="num_sites must be an integer"):
        function(0.5, 0.5, 4.0)


def test_unknown_coordinates_are_refused():
    with pytest.raises(ValueError, match="with_respect_to must be one of log_fugacities, rates, got 'beta'"):
        log_partition_derivatives(0.5, 0.5, 4, with_respect_to="beta")
