"""Box counting against sets of known dimension, and what it refuses to give a dimension to."""

import numpy as np
import pytest

from hessfast.slices.box_counting import boundary, box_counting


def carpet(order: int) -> np.ndarray:
    """Sierpinski's: of 3 x 3 squares the middle one is left out, again and again."""
    marks = np.ones((1, 1), bool)
    for _ in range(order):
        marks = np.kron([[1, 1, 1], [1, 0, 1], [1, 1, 1]], marks).astype(bool)
    return marks


def cantor(order: int) -> np.ndarray:
    line = np.ones(1, bool)
    for _ in range(order):
        line = np.concatenate([line, np.zeros_like(line), line])
    return line


@pytest.mark.parametrize("slope", [0.0, 0.37, 1.0, 2.7])
def test_a_straight_boundary_has_dimension_one(slope):
    rows, columns = np.mgrid[:512, :512]
    found = box_counting(boundary(rows > 50.5 + slope * columns))
    assert abs(found.dimension - 1) < 0.05 and found.sem < 0.05 and found.fitted.sum() >= 5


@pytest.mark.parametrize("side", [128, 512])
@pytest.mark.parametrize("slope", [0.0, 0.37, 1.0, 2.7])
def test_the_dimension_of_a_line_does_not_depend_on_its_direction(side, slope):
    """The same line in the four quadrants; a falling diagonal joined by corners only would have dimension 0.88."""
    rows, columns = np.mgrid[:side, :side] - side / 2 + 0.25
    for down, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        found = box_counting(boundary(down * rows > slope * right * columns))
        assert abs(found.dimension - 1) < 0.05, (down, right)


def test_a_slanted_boundary_is_connected_by_sides():
    rows, columns = np.mgrid[:4, :4]
    falling = [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 0]]
    assert boundary(rows + columns > 3).astype(int).tolist() == falling
    rising = [[0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert boundary(rows > columns).astype(int).tolist() == rising


def test_a_boundary_in_three_dimensions_is_a_surface():
    """Of the cube, with the block of eight: the marks of a plane across all axes lie three cubes deep."""
    sums = np.indices((4, 4, 4)).sum(axis=0)
    marks = boundary(sums > 4)
    assert (marks == ((sums > 4) & (sums < 8)))[1:, 1:, 1:].all()


@pytest.mark.parametrize("slope", [0.0, 0.37, 1.0])
def test_sizes_near_to_each_other_are_not_taken_for_saturated(slope):
    """From one size to the next counts of a line fall by a few per cent, as they should."""
    rows, columns = np.mgrid[:512, :512]
    found = box_counting(boundary(rows > 50.5 + slope * columns), np.arange(10, 40))
    assert found.fitted.sum() >= 20 and found.dimension == pytest.approx(1, abs=0.05)
    assert abs(found.dimension - 1) < found.sem < 0.15


def test_a_line_between_two_rows_of_boxes_is_counted_once():
    marks = np.zeros((128, 128), bool)
    marks[63:65] = True
    found = box_counting(marks)
    assert found.sizes.tolist() == [1, 2, 4, 8, 16, 32] and found.counts.tolist() == [256, 64, 32, 16, 8, 4]


def test_many_sizes_do_not_average_out_that_there_is_no_single_dimension():
    """A band has dimension 2 within its width and 1 beyond: half that difference is the least error of any one."""
    band = np.abs(np.subtract(*np.mgrid[:256, :256])) < 8
    for sizes in (None, np.arange(1, 65)):
        found = box_counting(band, sizes)
        assert 1.3 < found.dimension < 1.6 and 0.5 < found.sem < 0.8
    x, y = np.log(found.sizes[found.fitted]), np.log(found.counts[found.fitted])
    bend = np.polyfit(x, y, 2)[0]  # the slope changes by twice that times the range
    assert found.sem == pytest.approx(abs(bend) * np.ptp(x))


def test_the_error_of_slopes_is_that_of_their_mean():
    """Without a bend, of what slopes between consecutive sizes differ by."""
    found = box_counting(carpet(5), [1, 2, 3, 5, 9, 15, 27, 45])
    x, y = np.log(found.sizes[found.fitted]), np.log(found.counts[found.fitted])
    local = np.diff(y) / np.diff(x)
    bend = abs(np.polyfit(x, y, 2)[0]) * np.ptp(x)
    assert bend < found.sem == pytest.approx(local.std(ddof=1) / np.sqrt(len(local)))
    assert found.dimension == pytest.approx(-np.polyfit(x, y, 1)[0])


def test_a_filled_square_has_dimension_two():
    exact = box_counting(np.ones((128, 128), bool))
    assert exact.dimension == pytest.approx(2, abs=1e-12) and exact.sem < 1e-12 and exact.range == (1, 32)


def test_sierpinskis_carpet():
    marks, dimension = carpet(6), np.log(8) / np.log(3)
    exact = box_counting(marks, 3 ** np.arange(5))
    assert exact.dimension == pytest.approx(dimension, abs=1e-12) and exact.sem < 1e-12
    np.testing.assert_array_equal(exact.counts, 8 ** np.arange(6, 1, -1))
    np.testing.assert_allclose(exact.slopes, dimension, rtol=1e-12)
    found = box_counting(marks)  # boxes of powers of two do not fit it
    assert abs(found.dimension - dimension) < 0.06 and abs(found.dimension - dimension) < 3 * found.sem


def test_cantors_set_in_one_dimension_and_as_the_boundary_of_a_staircase():
    marks, dimension = cantor(7), np.log(2) / np.log(3)
    assert box_counting(marks, 3 ** np.arange(6)).dimension == pytest.approx(dimension, abs=1e-12)
    staircase = np.tile(np.cumsum(marks), (3**4, 1))  # rises on the set: its boundary is the set times a line
    found = box_counting(boundary(staircase), 3 ** np.arange(4))
    assert found.dimension == pytest.approx(1 + dimension, abs=0.01)


def test_random_points_are_refused_or_show_that_they_follow_no_power_law():
    rng = np.random.default_rng(0)
    for density in (0.05, 0.5):
        with pytest.raises(ValueError, match=r"marks must scale over three box sizes or more, got [12] of 8"):
            box_counting(rng.random((512, 512)) < density)
    found = box_counting(rng.random((512, 512)) < 0.002)
    assert found.sem > 0.2 and found.slopes[0] < 0.1 and found.slopes[-1] > 1.9
    assert not found.fitted[:2].any() and not found.fitted[-1]


def test_boundaries_of_features_lie_where_they_jump():
    angle = np.where(np.arange(6) < 3, 0.0, 1.0) + 0.01 * np.arange(6)
    features = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    assert boundary(np.stack([features, features]), 0.5).tolist() == [[False, False, False, True, False, False]] * 2
    assert not boundary(features, 1.1).any()
    assert boundary([True, False, False]).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (boundary, [[[0.0, 1.0]]], TypeError, "values must be integers or bool without a threshold, got float64"),
        (boundary, [[[0.0, np.nan]], 0.5], ValueError, "values must be finite, got nan"),
        (boundary, [[1.0, 2.0], 0.5], ValueError, r"values must be a map of one pixel or more, got shape \(2,\)"),
        (box_counting, [[[0, 1]]], TypeError, "marks must be bool, got int64. Compare"),
        (
            box_counting,
            [np.zeros((4, 4), bool)],
            ValueError,
            r"marks must hold a marked pixel, got none in shape",
        ),
        (
            box_counting,
            [np.ones((8, 8), bool), [1, 9]],
            ValueError,
            "sizes must be at most the shortest side, 8, got",
        ),
        (box_counting, [np.ones((8, 8), bool), []], ValueError, "sizes must be three or more, got none"),
        (box_counting, [np.ones((8, 8), bool), np.zeros(0, int)], ValueError, "^sizes must be three .*, got none.$"),
        (box_counting, [np.ones((8, 8), bool), [0, 2]], ValueError, "sizes must be >= 1, got 0"),
        (
            box_counting,
            [np.eye(8, dtype=bool)],
            ValueError,
            "marks must scale over three box sizes or more, got",
        ),
    ],
)
def test_refuses(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)
