"""pattern_counts: numba equals the definition; patterns counted by hand."""

import numpy as np
import pytest

from hessfast.kernels.pattern_counts import cpu, reference


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("shape", "height", "width"), [((3, 5, 7), 3, 3), ((2, 1, 20), 1, 4), ((2, 3, 3), 3, 3), ((0, 4, 4), 2, 2)]
)
def test_numba_equals_the_reference(shape, height, width, periodic):
    cells = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)
    expected = reference.pattern_counts(cells, height, width, periodic)
    np.testing.assert_array_equal(cpu.pattern_counts(cells, height, width, periodic), expected)


@pytest.mark.parametrize("form", [cpu, reference])
def test_one_cell_is_seen_from_every_place_of_the_window(form):
    cells = np.zeros((1, 6, 6), np.uint8)
    cells[0, 2, 3] = 1
    counts = form.pattern_counts(cells, 3, 3, True)[0]
    assert counts[0] == 36 - 9
    assert all(counts[1 << place] == 1 for place in range(9))
