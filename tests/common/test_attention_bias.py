"""A bias for the scores of attention, as T5 has it; and masks of two axes, which could be read in two ways."""

import keras
import numpy as np
import pytest
from biased_layers import KINDS
from numpy.testing import assert_allclose, assert_array_equal

import layers

B, T, S, H, D, M = 3, 4, 5, 2, 3, 8
BLOCKS = {
    "TransformerEncoderBlock": lambda: layers.TransformerEncoderBlock(H, 6, "relu"),
    "ReZeroTransformer": lambda: layers.ReZeroTransformer(H, 6, use_layer_norm=True),
    "ReuseTransformer": lambda: layers.ReuseTransformer(H, 6, "relu"),
}


def made(name):
    return getattr(layers, name)(num_heads=H, key_dim=D, dtype="float64", **KINDS[name])


def first(outputs):
    return keras.tree.flatten(outputs)[0]


def sides(rng):
    return rng.normal(size=(B, T, M)), rng.normal(size=(B, S, M))


def test_a_bias_is_added_to_the_logits_of_the_weights():
    """Without queries, logits are the bias: ln 3 and 0 weigh 3/4 and 1/4."""
    layer, x = layers.MultiHeadAttention(1, 2, use_bias=False, dtype="float64"), np.ones((1, 2, 4))
    layer(x, x)
    layer.query_dense.kernel.assign(np.zeros((4, 1, 2)))
    bias = np.log([[[[3.0, 1.0], [1.0, 1.0]]]])
    weights = layer(x, x, attention_bias=bias, return_attention_scores=True)[1]
    assert_allclose(weights, [[[[3 / 4, 1 / 4], [1 / 2, 1 / 2]]]], rtol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_no_bias_can_allow_what_a_mask_forbids(name, rng):
    x, y = sides(rng)
    mask = rng.random((B, T, S)) < 0.5
    mask[0, 1] = False
    layer = made(name)
    layer(x, y)
    high = np.where(mask, 0.0, 1e6)[:, None]
    expected = first(layer(x, y, attention_mask=mask))
    assert_array_equal(first(layer(x, y, attention_mask=mask, attention_bias=high)), expected)
    changed = y + 100.0 * ~mask.any((0, 1))[:, None]
    assert_array_equal(first(layer(x, changed, attention_mask=mask & mask.any((0, 1)), attention_bias=high)), expected)


@pytest.mark.parametrize("name", KINDS)
def test_the_bias_of_t5_fits_in_a_functional_model_and_is_trained(name, rng):
    x, y = keras.Input((None, M)), keras.Input((S, M))
    distances = layers.RelativePositionBias(H)
    output = first(getattr(layers, name)(num_heads=H, key_dim=D, **KINDS[name])(x, y, attention_bias=distances(x, y)))
    model = keras.Model([x, y], output)
    given = [side.astype("float32") for side in sides(rng)]
    before, table = np.asarray(model(given)), np.asarray(distances.embeddings)
    model.compile("sgd", "mse")
    model.fit(given, 1.0 + 0 * before, verbose=0)
    assert (np.asarray(distances.embeddings) != table).any()
    distances.embeddings.assign(0 * table)
    assert (np.asarray(model(given)) != before).any()


def test_blocks_take_the_bias_of_t5():
    x = keras.ops.ones((B, T, M)) * keras.ops.arange(1.0, T + 1)[:, None] * keras.ops.sin(keras.ops.arange(1.0, M + 1))
    bias = layers.RelativePositionBias(H, embeddings_initializer=keras.initializers.RandomNormal(stddev=9.0))(x, x)
    for name, make in BLOCKS.items():
        block = make()
        block(x)
        if name == "ReZeroTransformer":
            block.rezero_alpha.assign(0.5)
        assert (np.asarray(first(block(x))) != np.asarray(first(block(x, attention_bias=bias)))).any(), name


def test_a_bias_over_several_axes_has_the_axes_of_the_weights(rng):
    image = rng.normal(size=(B, 2, 3, 2, M))
    layer = layers.MultiHeadAttention(H, D, attention_axes=(1, 2), dtype="float64")
    flat = layers.MultiHeadAttention(H, D, dtype="float64")
    bias = rng.normal(size=(1, 2, H, 2, 3, 2, 3))
    rows = np.moveaxis(image, 3, 1).reshape(B * 2, 6, M)
    flat.build(rows.shape, rows.shape)
    layer.build(image.shape, image.shape)
    flat.set_weights(layer.get_weights())
    same = np.broadcast_to(bias, (B, *bias.shape[1:])).reshape(B * 2, H, 6, 6)
    expected = np.moveaxis(np.reshape(flat(rows, rows, attention_bias=same), (B, 2, 2, 3, M)), 1, 3)
    assert_allclose(layer(image, image, attention_bias=bias), expected, rtol=1e-10)
    with pytest.raises(ValueError, match=r"attention_bias must have 7 axes.*\(2, 3, 2, 3\)"):
        layer(image, image, attention_bias=bias[0, 0, 0])


@pytest.mark.parametrize("name", KINDS)
def test_a_bias_of_the_wrong_shape_is_refused(name, rng):
    x, y = sides(rng)
    for shape, message in (((T, S), "4 axes"), ((H, T, S), "4 axes"), ((1, T, H, S), r"broadcasts to \(3, 2, 4, 5\)")):
        with pytest.raises(ValueError, match=f"attention_bias must have .*{message}"):
            made(name)(x, y, attention_bias=np.ones(shape))


def test_a_layer_without_scores_refuses_a_bias(rng):
    x, y = sides(rng)
    layer = layers.ReuseMultiHeadAttention(H, D, reuse_attention=-1)
    with pytest.raises(ValueError, match="attention_bias needs new heads"):
        layer(x, y, reuse_attention_scores=np.ones((B, H, T, S)) / S, attention_bias=np.ones((1, 1, T, S)))


@pytest.mark.parametrize("name", KINDS)
def test_a_mask_of_two_axes_is_that_of_queries_and_keys_or_an_error(name, rng):
    x, y = sides(rng)
    layer, mask = made(name), rng.random((T, S)) < 0.6
    for same in (mask, mask[:1]):
        assert_array_equal(first(layer(x, y, attention_mask=same)), first(layer(x, y, attention_mask=same[None])))
    for b, rows in ((B, B), (T, T)):  # a padding mask, and one that might be one
        x, y = rng.normal(size=(b, T, M)), rng.normal(size=(b, S, M))
        with pytest.raises(
            ValueError, match=r"attention_mask\[None\] for \(t, s\), and attention_mask\[:, None, :\] for .* \(b, s\)"
        ):
            layer(x, y, attention_mask=np.ones((rows, S)))


def test_a_mask_of_two_axes_is_an_error_where_only_the_batch_tells_and_before_rows_are_dropped(rng):
    message = r"attention_mask with 2 axes is \(t, s\)"
    with pytest.raises(ValueError, match=message):
        made("MultiHeadAttention")(keras.Input((T, M)), keras.Input((S, M)), attention_mask=keras.Input((S,)))
    x = rng.normal(size=(B, T, M))
    for make in BLOCKS.values():
        for output_range in (None, 2, B):
            with pytest.raises(ValueError, match=message):
                make()([x, np.ones((B, T))], output_range=output_range)
    x = rng.normal(size=(B, 4, B, M))
    with pytest.raises(ValueError, match=message):
        layers.MultiHeadAttention(H, D, attention_axes=2)(x, x, attention_mask=np.ones((B, B)))
