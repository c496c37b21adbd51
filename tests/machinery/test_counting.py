"""Multiply-adds counted are those of the loops written out."""

import numpy as np

from crosscheck.case import B, D, H, S, T
from crosscheck.lesson.counting import multiply_adds, numbers_read


def test_a_product_of_matrices_is_counted_by_its_loops(rng):
    q, k = rng.normal(size=(B, T, H, D)), rng.normal(size=(B, S, H, D))
    with multiply_adds() as counted:
        np.einsum("bthd,bshd->bhts", q, k)
        np.einsum("...hd,hdm->...m", q, rng.normal(size=(H, D, 11)))
    assert counted == [B * T * S * H * D, B * T * H * D * 11]


def test_three_factors_are_two_products_and_one_array_is_none(rng):
    x = rng.normal(size=(T, D))
    with multiply_adds() as counted:
        np.einsum("td,td,d->t", x, x, x[0])
        np.einsum("td->t", x)
    assert counted == [2 * T * D, 0]


def test_what_a_product_reads_are_its_factors(rng):
    with numbers_read() as counted:
        np.einsum("bthd,bsd->bhts", rng.normal(size=(B, T, H, D)), rng.normal(size=(B, S, D)))
        np.einsum("td->t", rng.normal(size=(T, D)))
    assert counted == [B * T * H * D + B * S * D, 0]


def test_counting_ends_with_its_block(rng):
    einsum = np.einsum
    with multiply_adds():
        assert np.einsum is not einsum
    assert np.einsum is einsum
