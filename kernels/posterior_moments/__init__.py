"""posterior_moments: the denoiser of a data set, its covariance and its density, as a softmax in one stream.

    posterior_moments(queries, data, tau, probes, left_out) -> mean, log_normaliser, covariance

| argument       | dtype   | shape     | meaning                                                                 |     |
|----------------|---------|-----------|-------------------------------------------------------------------------|-----|
| queries        | float32 | [m, D]    | noisy y_i = x + sqrt(tau_i) z                                           | IN  |
| data           | float32 | [n, D]    | clean x_j, each as probable as the others; n >= 1                       | IN  |
| tau            | float64 | [m]       | variance of the noise of a query, > 0                                   | IN  |
| probes         | float32 | [m, k, D] | vectors v_ik of a query; k >= 0                                         | IN  |
| left_out       | int64   | [m]       | the datum that a query does without, or -1; never the only one          | IN  |
| mean           | float32 | [m, D]    | D*(y_i) = sum_j w_ij x_j, w_ij = softmax_j(-abs(y_i - x_j)^2 / 2 tau_i) | OUT |
| log_normaliser | float64 | [m]       | log sum_j exp(-abs(y_i - x_j)^2 / 2 tau_i)                              | OUT |
| covariance     | float32 | [m, k, D] | Cov(X given y_i) v_ik = sum_j w_ij (x_j - D*) <x_j - D*, v_ik>          | OUT |

log p_tau(y) = log_normaliser - log(number of data that count) - (D / 2) log(2 pi tau); D* = y + tau grad log p_tau and
Cov = tau Jac D*.

Exponents are (y.x - x.x / 2) / tau in float64, of data less their mean; y.y / (2 tau) is common to a query and joins
its log normaliser only. Weights are float32. All sums of a query take the same weights and are scaled alike when the
greatest exponent grows, so that E[x <x, v>] - D* <D*, v> in float64 is a covariance of these very weights: one pass,
where a second one that knew D* would repeat the product of exponents, and in float32 would still lose abs(x) / sd.
Accuracy, with R^2 the greatest of abs(x - mean)^2 and abs(y - mean)^2, and e = TOLERANCE + ROUNDING R^2 / tau:
    abs(error of D*)             <= e E abs(X - D*)            + TOLERANCE R, and float32's rounding of D*
    abs(error of log_normaliser) <= e
    abs(error of Cov v)          <= e E abs(X - D*)^2 abs(v)   + ROUNDING R^2 abs(v)
Work: 2 m n D (2 + 2 k) operations and m n exponentials. Bytes: inputs and outputs; the m x n weights exist in panels.
"""

ROUNDING, TOLERANCE = 2e-15, 1e-6
