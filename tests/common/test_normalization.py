"""Norms of layers are those of the references; a large mean does not drown what varies; a constant row is no NaN."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

from crosscheck.case import M, T
from layers.common.normalization import LayerNorm, NoNorm, RMSNorm
from reference.common import normalization as ref

DTYPES = ("float64", "float32", "mixed_bfloat16", "mixed_float16", "float16", "bfloat16")


def built(kind, dtype="float64", epsilon=1e-12):
    norm = kind(epsilon=epsilon, dtype=dtype)
    norm.build((None, M))
    return norm


def test_layer_norm_is_the_references(rng):
    x, norm, weights = rng.normal(size=(T, M)), built(LayerNorm, epsilon=0.1), ref.LayerNorm(*rng.normal(size=(2, M)))
    norm.set_weights(weights)
    assert_allclose(norm(x), ref.layer_norm(x, weights, 0.1), rtol=1e-12, atol=1e-14)


def test_rms_norm_is_the_references(rng):
    x, norm, weights = rng.normal(size=(T, M)), built(RMSNorm, epsilon=0.1), ref.RMSNorm(rng.normal(size=M))
    norm.set_weights(weights)
    assert_allclose(norm(x), ref.rms_norm(x, weights, 0.1), rtol=1e-12, atol=1e-14)


def test_worked_example():
    """(3, 1) has mean 2 and variance 1; its mean square is 5."""
    x, one = np.array([[3.0, 1.0]]), np.ones(2)
    assert_allclose(ref.layer_norm(x, ref.LayerNorm(2 * one, one)), [[3, -1]])
    assert_allclose(ref.rms_norm(x, ref.RMSNorm(one)), x / np.sqrt(5))


def test_layer_norm_does_not_see_a_shift_nor_a_positive_factor(rng):
    x, weights = rng.normal(size=(T, M)), ref.LayerNorm(*rng.normal(size=(2, M)))
    assert_allclose(ref.layer_norm(3 * x + 5, weights), ref.layer_norm(x, weights), atol=1e-11)


def test_a_large_mean_does_not_drown_what_varies(rng):
    """The mean of squares less the square of the mean would be off by 0.06."""
    x = rng.normal(size=(T, M)).astype("float32") + np.float32(1000)
    weights = ref.LayerNorm(np.ones(M), np.zeros(M))
    assert_allclose(built(LayerNorm, "float32")(x), ref.layer_norm(x.astype("float64"), weights), atol=5e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_a_row_of_zeros_is_zeros_and_large_numbers_do_not_overflow(kind, dtype):
    norm, large = built(kind, dtype), np.tile([30_000.0, -30_000.0], 6)[:M]
    rows = keras.ops.cast(norm(keras.ops.cast(np.stack([np.zeros(M), large]), norm.compute_dtype)), "float64")
    assert not np.any(rows[0]) and np.isfinite(rows).all() and 0.8 < np.abs(rows[1]).max() < 1.2


@pytest.mark.parametrize("size", [1, M + 1])
@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm, NoNorm])
def test_another_size_than_it_was_built_for_is_rejected_and_not_spread(kind, size):
    norm = kind()
    norm.build((None, None, M))
    assert norm(np.ones((2, T, M))).shape == (2, T, M)
    with pytest.raises(ValueError, match=rf"expected axis -1 of input shape to have value {M}, .*shape \(2, {T}, {size}\)"):
        norm(np.ones((2, T, size)))


@pytest.mark.parametrize("axis", [-1, 2, [-1], [2]])
@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
def test_the_axis_is_the_last_one_however_it_is_named(kind, axis):
    norm = kind(axis=axis)
    norm(np.ones((2, 3, 4)))
    assert kind.from_config(norm.get_config())(np.ones((2, 3, 4))).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("kind", "message", "options"),
    [
        (LayerNorm, r"axis must be the last one, -1. Received: axis=1", {"axis": 1}),
        (LayerNorm, r"axis must be .*\[1, 2\]", {"axis": [1, 2]}),
        (LayerNorm, r"center and scale must be True. Received: center=False, scale=True", {"center": False}),
        (LayerNorm, r"center and scale must be True. Received: center=True, scale=False", {"scale": False}),
        (RMSNorm, r"axis must be .*axis=1", {"axis": 1}),
    ],
)
def test_arguments_of_keras_that_would_be_ignored_are_rejected(kind, message, options):
    with pytest.raises(ValueError, match=message):
        kind(**options)(np.ones((2, 4, 4)))
