"""The exact stationary weight f(tau) of given configurations of the open TASEP, for many pairs of rates each.

    tasep_likelihood(log_weight, error, words, num_sites, entry_fugacity, exit_fugacity, threshold)

| argument       | dtype   | shape             |     | meaning                                                       |
|----------------|---------|-------------------|-----|---------------------------------------------------------------|
| log_weight     | float64 | [n, n_a, n_b]     | OUT | a lower bound of log f(tau); p(tau) = f(tau) / Z_M            |
| error          | float64 | [n, n_a, n_b]     | OUT | log f(tau) is at most log_weight + error, rounding aside      |
| words          | uint64  | [n, ceil(M / 64)] | IN  | site j is bit j % 64 of word j // 64                          |
| num_sites      | int     |                   | IN  | M >= 1                                                        |
| entry_fugacity | float64 | [n, n_a]          | IN  | a = (1 - alpha) / alpha >= 0                                  |
| exit_fugacity  | float64 | [n, n_b]          | IN  | b = (1 - beta) / beta >= 0                                    |
| threshold      | float64 |                   | IN  | levels below this share of the mass are dropped; 0: none are  |

The matrix product of Derrida, Evans, Hakim and Pasquier (1993) in the form f = sum_g v_g b^g, v_g = [g = 0] before the
first site, and from left to right

    occupied:  v'_g = v_g + v_(g-1)            empty:  v'_g = v_g + v_(g+1),   v'_0 = (1+a) v_0 + v_1.

`reference.py` does just that, in rational numbers. `cpu.py` splits every path of the level g at its last stay at 0
that is paid with a. Before it only v_0 counts; behind it the path, read backwards with particles and holes
exchanged, is one of the same recursion with b for a. So, with v_0 and u_0 before and behind site j,

    f(a, b) = u_0(behind the entry; b) + a sum_(j empty) v_0(before j; a) u_0(behind j; b):

n_a + n_b recursions serve n_a n_b pairs, and only levels from which 0 is reached again matter, O(sqrt M) of them.

Width and error. In y_g = v_g x^g / ((1+x)^ones (1+1/x)^zeros), 0 < x <= 1/a, the recursion is a random walk that loses
mass at 0 or none; making x smaller on the way only shrinks y. So whatever is dropped, d in sum, can never add more
than d to a later y_0: [y_0, y_0 + d] holds the truth. x follows the density of the configuration (`tilts`), which keeps
y_0 of the order of a power of M.

Work: (n_a + n_b) M W multiply-adds per configuration, W ~ 4 sqrt M on average, and n_a n_b zeros(tau) for the pairs.
Bytes: about 24 (n_a + n_b) zeros(tau) of scratch per thread.
"""
