"""Attention over several axes, or over one of several: which axes a mask has, and which axes a layer attends over."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from layers.attention import MultiHeadAttention
from layers.grouped_query_attention import GroupedQueryAttention
from layers.reuse_attention import ReuseMultiHeadAttention
from layers.talking_heads_attention import TalkingHeadsAttention

B, H, D, M = 2, 2, 3, 6
KINDS = (
    MultiHeadAttention,
    TalkingHeadsAttention,
    ReuseMultiHeadAttention,
    lambda *sizes, **options: GroupedQueryAttention(*sizes, num_kv_heads=1, **options),
)
# (shapes of query and value without the model axis, attended axes): batch size, length and number of heads coincide in most.
SHAPES = (
    ((B, 3, 4), (B, 3, 2), (2,)),
    ((B, 2, 2), (B, 2, 2), (2,)),
    ((B, 4, 2), (B, 2, 2), (1,)),
    ((B, 2, 3, 2, 2), (B, 2, 3, 2, 2), (3, 4)),
    ((B, 2, 3), (B, 4, 2), (1, 2)),
)


def sides(rng, query, value):
    return rng.normal(size=(*query, M)), rng.normal(size=(*value, M))


def full_mask(rng, query, value, axes):
    """A mask with all axes: batch axes, heads, the query's attended axes, the keys'. Each query may attend to some key."""
    batch = [size for axis, size in enumerate(query) if axis not in axes]
    attended = [side[axis] for side in (query, value) for axis in axes]
    mask = rng.random((*batch, H, *attended)) < 0.5
    mask[(..., *[0] * len(axes))] = True
    return mask, len(batch)


@pytest.mark.parametrize(("query", "value", "axes"), SHAPES)
def test_the_axes_that_a_mask_lacks_follow_those_that_it_has(rng, query, value, axes):
    x, y = sides(rng, query, value)
    full, batch = full_mask(rng, query, value, axes)
    for kind in KINDS:
        layer = kind(H, D, attention_axes=axes, dtype="float64")
        for first in {1, batch, batch + 1}:
            mask = full[(slice(None),) * first + (0,) * (batch + 1 - first)]
            same = np.broadcast_to(np.expand_dims(mask, tuple(range(first, batch + 1))), full.shape)
            assert_array_equal(layer(x, y, attention_mask=mask), layer(x, y, attention_mask=same), err_msg=f"{kind}, {first}")


@pytest.mark.parametrize(("query", "value", "axes"), SHAPES)
def test_a_mask_over_several_axes_means_what_it_means_in_keras(rng, query, value, axes):
    x, y = sides(rng, query, value)
    full, batch = full_mask(rng, query, value, axes)
    layer = MultiHeadAttention(H, D, attention_axes=axes)
    theirs = keras.layers.MultiHeadAttention(H, D, attention_axes=axes)
    layer.build(x.shape, y.shape)
    theirs.build(x.shape, y.shape)
    theirs.set_weights(layer.get_weights())
    for first in {1, batch, batch + 1}:
        mask = full[(slice(None),) * first + (0,) * (batch + 1 - first)]
        expected = theirs(x, y, attention_mask=mask, return_attention_scores=True)[0]
        assert_allclose(layer(x, y, attention_mask=mask), expected, atol=1e-6, err_msg=f"{first} axes before the attended ones")


@pytest.mark.parametrize(("shape", "message"), [((B, 2, 2, 2), "before them"), ((B, 2, 5, 2, 2), r"broadcasts to \(2, 2, 3")])
def test_a_mask_that_does_not_fit_the_axes_is_refused(rng, shape, message):
    x = rng.normal(size=(B, 2, 3, 2, M))
    layer = MultiHeadAttention(H, D, attention_axes=3)
    with pytest.raises(ValueError, match=rf"attention_mask must have .*{message}"):
        layer(x, x, attention_mask=np.ones(shape))


def test_the_default_axes_are_those_of_the_inputs_at_hand_whatever_came_before(rng):
    sequence, image = rng.normal(size=(B, 5, M)), rng.normal(size=(B, 3, 4, M))
    for kind in KINDS:
        layer, fresh = (kind(H, D, dtype="float64") for _ in range(2))
        layer(sequence, sequence)
        copy = type(layer).from_config(layer.get_config())
        fresh(image, image)
        copy(image, image)
        for other in (fresh, copy):
            other.set_weights(layer.get_weights())
        expected = fresh(image, image)
        assert expected.shape == image.shape
        assert_array_equal(layer(image, image), expected)
        assert_array_equal(copy(image, image), expected)
        assert layer.attention_axes is None and fresh.attention_axes is None
        assert_array_equal(fresh(sequence, sequence), layer(sequence, sequence))


def test_negative_axes_are_counted_from_the_end_of_each_input(rng):
    layer = MultiHeadAttention(H, D, attention_axes=-2, dtype="float64")
    sequence, image = rng.normal(size=(B, 4, M)), rng.normal(size=(B, 3, 4, M))
    image[:, 1] = sequence
    layer(sequence, sequence)
    assert_allclose(layer(image, image)[:, 1], layer(sequence, sequence), rtol=1e-12)
