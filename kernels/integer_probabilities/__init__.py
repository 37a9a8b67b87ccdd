"""integer_probabilities: floor(2^64 p) of a logistic function or of 1 - exp, the same integers on every machine.

    logistic64(high, low, denominator) -> floor(2^64 / (1 + exp(-(high + low) / denominator)))
    one_minus_exp64(numerator, denominator) -> floor(2^64 p), floor(2^64 p / (2 - p)),  p = 1 - exp(-num. / den.)

| argument    | dtype   | shape | meaning                                                |     |
|-------------|---------|-------|--------------------------------------------------------|-----|
| high, low   | float64 | [n]   | the numerator, an unevaluated sum; low is its rounding| IN  |
| numerator   | float64 | [n]   | >= 0                                                   | IN  |
| denominator | float64 | [n]   | > 0                                                    | IN  |
| (results)   | uint64  | [n]   | at most 2^64 - 1                                       | OUT |

The compiled form uses double-double arithmetic (Dekker 1971; relative error about 1e-30): additions, multiplications
and divisions of IEEE 754 alone, never the machine's exp. Beyond an exponent of 200 the result is 0 or 2^64 - 1.
Arguments lie within 1e-290 .. 1e290, where nothing overflows.
Work: about 700 FLOP an element.
"""

FAR = 200.0  # exp(-200) is far below 2^-64
