"""Calibration and separation: numbers worked by hand, the loop beside the trick, scipy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import mannwhitneyu

from reference.gaussian_process_head import calibration as ref


def test_reliability_worked_by_hand():
    """Two bins: {0.5 right, 0.4 wrong} has accuracy 0.5, confidence 0.45; {0.9, 0.7, 0.8; two right} has 2/3 and 0.8."""
    confidence, right = np.array([0.5, 0.9, 0.4, 0.7, 0.8]), np.array([True, True, False, False, True])
    accuracy, mean, count = ref.reliability(confidence, right, bins=2)
    assert_allclose(accuracy, [1 / 2, 2 / 3])
    assert_allclose(mean, [0.45, 0.8])
    assert_array_equal(count, [2, 3])
    assert_allclose(ref.expected_calibration_error(confidence, right, bins=2), 2 / 5 * 0.05 + 3 / 5 * (0.8 - 2 / 3))


def test_every_confidence_is_in_one_bin_and_an_upper_edge_in_its_own():
    accuracy, _, count = ref.reliability(np.array([0.0, 0.25, 0.5, 1.0]), np.array([True, False, True, True]), bins=4)
    assert_array_equal(count, [2, 1, 0, 1])
    assert np.isnan(accuracy[2]) and accuracy[0] == 0.5


def test_one_who_is_right_as_often_as_she_says_has_no_calibration_error(rng):
    confidence = rng.uniform(0.5, 1, 200_000)
    right = rng.random(200_000) < confidence
    assert ref.expected_calibration_error(confidence, right) < 0.01
    assert_allclose(ref.expected_calibration_error(np.ones(4), np.array([True, False, False, False])), 0.75)


def test_auroc_by_counting_is_auroc_by_pairs_and_that_of_scipy(rng):
    inside, outside = rng.integers(0, 9, 40) / 8, rng.integers(2, 12, 30) / 8  # with many ties
    expected = ref.auroc_by_pairs(inside, outside)
    assert_allclose(ref.auroc(inside, outside), expected, rtol=1e-12)
    assert_allclose(mannwhitneyu(outside, inside).statistic / (40 * 30), expected, rtol=1e-12)


@pytest.mark.parametrize(("inside", "outside", "expected"), [([1, 2], [3, 4], 1.0), ([3, 4], [1, 2], 0.0), ([1, 1], [1, 1], 0.5)])
def test_auroc_at_its_limits(inside, outside, expected):
    assert ref.auroc(np.array(inside, float), np.array(outside, float)) == expected
