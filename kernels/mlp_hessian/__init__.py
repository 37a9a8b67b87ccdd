"""mlp_hessian: value, gradient and Hessian of a scalar multilayer perceptron at many points.

    mlp_hessian(points, hidden, last, activation) -> value, gradient, hessian

    z_l = W_l a_(l-1) + U_l x + b_l,   a_l = act(norm_l(z_l)),   f(x) = <w, a_L> + <u, x> + b

| argument   | dtype          | shape      | meaning                                                            |     |
|------------|----------------|------------|--------------------------------------------------------------------|-----|
| points     | float32 tensor | [n, d]     | x                                                                  | IN  |
| hidden     | L >= 1 Layers  |            | or equal tuples; the first without W; on the device of the points  | IN  |
| last       | Layer          |            | W [1, width_L], U [1, d] or None, b [1], no norm                   | IN  |
| activation | str            | scalar     | one of ACTIVATIONS                                                 | IN  |
| value      | float32 tensor | [n]        | f                                                                  | OUT |
| gradient   | float32 tensor | [n, d]     |                                                                    | OUT |
| hessian    | float32 tensor | [n, d, d]  | symmetric                                                          | OUT |

With tangents J_l = dz_l/dx carried forward, g_l = df/da_l brought back, H = sum_l J_l^T diag(g_l act''(z_l)) J_l:
2 + d times the products of one forward pass, for any d, where reverse over reverse takes 2 + 2 d. A LayerNorm adds

    sum_k g_k d2n_k / dz dz [t_i, t_j],   n = c s,   c = z - mean z,   s = 1 / sqrt(mean c^2 + eps):
    c_i' s_j' + c_j' s_i' + c s_ij'',   s_i' = -s^3 <c c_i'>,   s_ij'' = 3 s^5 <c c_i'> <c c_j'> - s^3 <c_i' c_j'>.

Work: 2 (2 + d) n sum_l width_l width_(l-1) operations. Bytes: the weights once for a block of points, results once.
"""

from typing import Any, NamedTuple

ACTIVATIONS = ("relu", "softplus", "silu", "tanh", "gelu")


class Layer(NamedTuple):
    """W [width, width before] or None, U [width, d] or None, b [width]; norm: gain [width], shift [width], eps."""

    weight: Any
    skip: Any
    bias: Any
    norm: tuple[Any, Any, float] | None = None
