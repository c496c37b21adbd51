"""The definition, a picture drawn by hand, and what masks must keep apart. Layer against reference: tests/conformance."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from crosscheck.case import B, M, S, T
from layers.self_attention_mask import SelfAttentionMask
from reference import self_attention_mask as ref


def test_the_mask_is_may_attend_for_every_pair(rng):
    to_mask = rng.integers(0, 3, (B, S))
    mask = ref.self_attention_mask(T, to_mask)
    assert mask.shape == (B, T, S)
    for b, t, s in np.ndindex(B, T, S):
        assert mask[b, t, s] == ref.may_attend(to_mask, b, t, s)


def test_worked_examples():
    assert ref.causal_mask(3, 4).astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert ref.padding_mask(np.array([0, 2, 3]), 3).astype(int).tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]
    ids = np.array([[1, 1, 2]])
    assert ref.segment_mask(ids, ids)[0].astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert ref.segment_mask(ids, np.array([[2, 1]]))[0].astype(int).tolist() == [[0, 1], [0, 1], [1, 0]]


@pytest.mark.parametrize("lengths", [[-1, 2], [2, 6]])
def test_lengths_outside_the_sequence_are_rejected(lengths):
    with pytest.raises(ValueError, match=rf"lengths must be between 0 and s=5. Received: lengths=\[{lengths[0]}, {lengths[1]}\]"):
        ref.padding_mask(np.array(lengths), 5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("kind", ["bool", "int32", "float32"])
def test_any_number_but_zero_means_visible_in_every_dtype(dtype, kind):
    """Ids that float16 cannot hold, or rounds to another, must not become infinite or vanish."""
    to_mask = np.array([[0, 1, 2, 70000, 1e-8]]).astype(kind)
    layer = SelfAttentionMask(dtype=dtype)
    mask = layer(np.ones((1, 2, M)), to_mask)
    assert mask.dtype == layer.compute_dtype
    assert_array_equal(keras.ops.cast(mask[0, 1], "float32"), (to_mask[0] != 0).astype("float32"))


def test_padded_queries_attend_like_any_other():
    mask = SelfAttentionMask()(np.ones((1, 3, M)), np.array([[1, 1, 0]]))
    assert_array_equal(mask[0], [[1, 1, 0]] * 3)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (r"to_mask must be given, or inputs must be \[inputs, to_mask\]", [np.ones((B, T, M))]),
        (r"to_mask must have 2 axes. Received: to_mask of shape \(2, 1, 5\)", [np.ones((B, T, M)), np.ones((B, 1, S))]),
        (
            r"inputs and to_mask must have the same batch size. Received: inputs with 2, to_mask with 4",
            [np.ones((B, T)), np.ones((4, S))],
        ),
        (r"inputs must have at least 2 axes", [np.ones(B), np.ones((B, S))]),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(message, arguments):
    with pytest.raises(ValueError, match=message):
        SelfAttentionMask()(*arguments)
