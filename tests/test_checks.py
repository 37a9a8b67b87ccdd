"""Checks of numbers that public functions share: what passes comes back as plain floats, the rest in a sentence."""

import numpy as np
import pytest
import torch

from hessfast import _checks


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.array(2), torch.tensor(2.0)])
def test_numbers_of_all_kinds(value):
    for checked in (_checks.number("x", value), _checks.number("x", value, 2, 2), _checks.positive("x", value)):
        assert type(checked) is float and checked == 2
    assert _checks.interval("x", (1, value)) == (1.0, 2.0)
    assert _checks.interval("x", [0, value]) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _checks.number("x", "2"), TypeError, "x must be a number or an array of numbers, got '2'."),
        (lambda: _checks.number("x", [1, 2]), TypeError, r"x must be a number, got \[1, 2\]."),
        (lambda: _checks.number("x", float("nan")), ValueError, "x must be finite, got nan."),
        (lambda: _checks.number("x", -1, low=0), ValueError, r"x must be >= 0, got -1\.0."),
        (lambda: _checks.number("x", 2, high=1), ValueError, r"x must be <= 1, got 2\.0."),
        (lambda: _checks.number("x", 2, 0, 1), ValueError, r"x must be in \[0, 1\], got 2\.0."),
        (lambda: _checks.positive("x", 0), ValueError, r"x must be > 0, got 0\.0."),
        (lambda: _checks.integer_array("x", np.uint64(2**63), (), 0), ValueError, r"x must be <= 2\^62, got 9223372"),
        (lambda: _checks.interval("x", (2, 1)), ValueError, r"x must be two ascending numbers, got \(2, 1\)."),
        (lambda: _checks.interval("x", 1), ValueError, "x must be two ascending numbers, got 1."),
        (
            lambda: _checks.interval("x", (0, 1), positive=True),
            ValueError,
            r"two ascending positive numbers, got \(0, 1",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_and_masks_are_no_numbers():
    with pytest.raises(TypeError, match="x must be a number or an array of numbers, got None"):
        _checks.float_array("x", None)
    with pytest.raises(ValueError, match="x must not be masked, got 1 masked entries"):
        _checks.float_array("x", np.ma.masked_invalid([1.0, np.nan]))
    assert _checks.float_array("x", np.ma.masked_invalid([1.0, 2.0])).tolist() == [1, 2]
