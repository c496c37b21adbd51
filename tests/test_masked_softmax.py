"""The definition, numbers worked by hand, every dtype's empty row. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from crosscheck.case import B, H, S, T
from layers.masked_softmax import MaskedSoftmax
from reference import masked_softmax as ref

POLICIES = ("float64", "float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def scores_and_mask(rng):
    return rng.normal(size=(B, H, T, S)), rng.random((B, T, S)) < 0.6


def test_all_rows_at_once_are_one_row_at_a_time(rng):
    x, mask = scores_and_mask(rng)
    mask = np.broadcast_to(mask[:, None], x.shape)
    found = ref.masked_softmax(x, mask)
    for row in np.ndindex(B, H, T):
        assert_allclose(found[row], ref.masked_softmax_row(x[row], mask[row]), rtol=1e-13)


def test_worked_example():
    found = ref.masked_softmax(np.array([np.log(3), 0.0, 7.0]), np.array([True, True, False]))
    assert_allclose(found, [3 / 4, 1 / 4, 0], rtol=1e-15)


@pytest.mark.parametrize("axes", [-1, 2, (1, 3), (0, 1, 2, 3)])
def test_several_axes_are_the_flattened_array(rng, axes):
    x, _ = scores_and_mask(rng)
    found = ref.masked_softmax(x, axes=axes)
    assert_allclose(found.sum(axis=axes), 1)
    assert_allclose(found, np.exp(x) / np.exp(x).sum(axis=axes, keepdims=True), rtol=1e-12)
    layer = MaskedSoftmax(normalization_axes=list(axes) if isinstance(axes, tuple) else axes, dtype="float64")
    assert_allclose(layer(x), found, rtol=1e-12)


def test_large_scores_do_not_overflow_and_shifts_change_nothing(rng):
    x, _ = scores_and_mask(rng)
    assert_allclose(ref.masked_softmax(x + 1e6), ref.masked_softmax(x), rtol=1e-8)
    assert_array_equal(ref.masked_softmax(np.array([2e4, 0.0])), [1, 0])


def test_agrees_with_keras_where_no_row_is_empty(rng):
    x, mask = scores_and_mask(rng)
    mask = np.broadcast_to(mask[:, None], x.shape).copy()
    mask[..., 0] = True
    assert_allclose(MaskedSoftmax(dtype="float64")(x, mask), keras.layers.Softmax(dtype="float64")(x, mask), rtol=1e-12)


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("axes", [None, (-2, -1)])
def test_a_row_with_nothing_allowed_is_zeros(dtype, axes):
    layer = MaskedSoftmax(mask_expansion_axes=1, normalization_axes=axes, dtype=dtype)
    found = layer(np.array([-40.0, -50.0, -60.0]).reshape(1, 1, 1, 3), np.zeros((1, 1, 3)))
    assert found.dtype == layer.compute_dtype
    assert_array_equal(keras.ops.cast(found, "float32"), np.zeros((1, 1, 1, 3)))


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("forbidden", [1e3, 6e4])
def test_a_forbidden_score_has_no_influence_however_large(dtype, forbidden):
    layer, mask = MaskedSoftmax(dtype=dtype), np.array([[True, True, False]])
    assert_array_equal(layer(np.array([[1.0, 2.0, forbidden]]), mask), layer(np.array([[1.0, 2.0, 0.0]]), mask))


def test_a_row_of_one_position_is_one_if_it_is_allowed_and_warns_of_nothing(recwarn):
    assert_array_equal(MaskedSoftmax()(np.array([[-7.0], [8.0]]), np.array([[True], [False]])), [[1.0], [0.0]])
    assert not recwarn.list


@pytest.mark.parametrize("forbidden", [1e12, 1e25, np.inf])
def test_a_forbidden_score_is_replaced_and_not_added_to(forbidden):
    layer, mask = MaskedSoftmax(), np.array([[True, True, False]])
    assert_array_equal(layer(np.array([[1.0, 2.0, forbidden]]), mask), layer(np.array([[1.0, 2.0, 0.0]]), mask))
    allowed = mask[0]
    assert_array_equal(
        ref.masked_softmax(np.array([1.0, 2.0, forbidden]), allowed), ref.masked_softmax(np.array([1.0, 2.0, 0.0]), allowed)
    )


@pytest.mark.parametrize("mask", [[2, 1, 0], [101, 7, 0], [0.5, 1e-3, 0.0], [True, True, False]])
def test_the_mask_is_boolean_and_a_two_is_no_bonus(mask):
    assert_array_equal(MaskedSoftmax()(np.zeros((1, 3)), np.array([mask])), [[0.5, 0.5, 0]])


@pytest.mark.parametrize(("axes", "shape"), [(1, (B, T, S)), ([1], (B, S)), ((1, 2), (B, S)), (-2, (B, S)), (None, (1, 1, T, S))])
def test_axes_that_a_mask_lacks_are_inserted(rng, axes, shape):
    x, mask = rng.normal(size=(B, H, T, S)), rng.random(shape) < 0.7
    full = mask[:, None, None] if len(shape) == 2 else mask[:, None] if len(shape) == 3 else mask
    assert_allclose(MaskedSoftmax(axes, dtype="float64")(x, mask), ref.masked_softmax(x, full), rtol=1e-12)


@pytest.mark.parametrize(("axes", "shape"), [(None, (B, S)), (1, (B, S, T)), ([1, 2], (B, T, S)), (None, (3, H, T, S))])
def test_masks_that_do_not_fit_are_rejected(axes, shape):
    with pytest.raises(ValueError, match=r"mask, with mask_expansion_axes, must have a shape that broadcasts to .* Received: "):
        MaskedSoftmax(axes)(np.ones((B, H, T, S)), np.ones(shape))


def test_the_gradient_through_an_empty_row_is_zero():
    import tensorflow as tf

    x = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(MaskedSoftmax()(x, np.array([[True, True], [False, False]])) * [[1.0, 2.0], [3.0, 4.0]])
    gradient = tape.gradient(total, x).numpy()
    assert np.isfinite(gradient).all() and gradient[0].any() and not gradient[1].any()
