"""Sizes at which attention is easily wrong: no queries, no keys, and sizes that only a graph does not know."""

import inspect

import keras
import numpy as np
import pytest

import layers

KINDS = {
    "MultiHeadAttention": {},
    "GroupedQueryAttention": {"num_kv_heads": 2},
    "TalkingHeadsAttention": {},
    "ReuseMultiHeadAttention": {},
    "CachedAttention": {},
    "MultiHeadRelativeAttention": {},
    "KernelAttention": {"feature_transform": "elu"},
}


def call(name, *sides, **options):
    layer = getattr(layers, name)(num_heads=4, key_dim=3, **KINDS[name])
    biases = (None, None) if name == "MultiHeadRelativeAttention" else ()
    outputs = layer(*sides, *biases, **options)
    return outputs if isinstance(outputs, (tuple, list)) else [outputs]


@pytest.mark.parametrize("name", KINDS)
def test_no_queries_and_no_keys_are_sequences_too(name):
    for t, s in ((0, 5), (5, 0), (0, 0)):
        output = call(name, np.ones((2, t, 8), "float32"), np.ones((2, s, 8), "float32"))[0]
        assert tuple(output.shape) == (2, t, 8)
        assert np.isfinite(output).all()


@pytest.mark.parametrize("name", [name for name in KINDS if name != "KernelAttention"])
def test_a_known_length_is_known_in_the_symbolic_weights(name):
    for t, s in ((21, 17), (None, 17), (21, None)):
        weights = call(name, keras.Input((t, 8)), keras.Input((s, 8)), return_attention_scores=True)[1]
        assert weights.shape == (None, 4, t, s)
    keras.layers.Dense(2)(call(name, keras.Input((21, 8)), keras.Input((17, 8)), return_attention_scores=True)[1])


def weights_of(name, t, s):
    """The symbolic weights of a layer other than `KINDS`, of queries of length `t`, and of keys of length `s`."""
    x, y = keras.Input((t, 8)), keras.Input((s, 8))
    if name == "MultiChannelAttention":
        channels, shares = keras.Input((3, s, 8)), keras.Input((4, t, 3))
        return layers.MultiChannelAttention(4, 3)(x, channels, context_attention_weights=shares, return_attention_scores=True)[1]
    if name == "MobileBertTransformer":
        return layers.MobileBertTransformer(8, 4, 6, intra_bottleneck_size=4)(x, return_attention_scores=True)[1]
    if name == "BertEncoder":
        encoder = layers.BertEncoder(9, 8, 1, 4, max_sequence_length=21, inner_dim=6, return_attention_scores=True)
        ids = {name: keras.Input((t,), dtype="int32") for name in ("input_word_ids", "input_mask", "input_type_ids")}
        return encoder(ids)["attention_scores"][0]
    if name == "ReuseTransformer":
        return layers.ReuseTransformer(4, 6, "relu")(x)[1]
    block = layers.TransformerEncoderBlock(4, 6, "relu", return_attention_scores=True, num_kv_heads=2)
    return block([x, y, keras.Input((1, 1))])[1]  # a mask of one entry does not tell the lengths


def test_a_known_length_is_known_in_the_symbolic_weights_of_every_other_layer():
    functions = [(name, getattr(getattr(layers, name), where, None)) for name in layers.__all__ for where in ("__init__", "call")]
    returning = {name for name, f in functions if f and "return_attention_scores" in inspect.signature(f).parameters}
    for name in sorted({*returning, "ReuseTransformer"} - {*KINDS}):  # which always returns them
        for t, s in ((21, 17), (None, 17)):
            s = t if name in ("MobileBertTransformer", "BertEncoder", "ReuseTransformer") else s
            channels = (3,) if name == "MultiChannelAttention" else ()
            assert weights_of(name, t, s).shape == (None, *channels, 4, t, s), name


def test_a_known_length_is_known_beside_a_bias_a_memory_and_further_axes():
    q, k = keras.Input((21, 8)), keras.Input((17, 8))
    bias = layers.RelativePositionBias(4)(q, k)
    assert call("GroupedQueryAttention", q, k, attention_bias=bias, return_attention_scores=True)[1].shape == (None, 4, 21, 17)
    sides = keras.Input((21, None, 8)), keras.Input((17, None, 8))
    for axes, expected in ((None, (None, 4, 21, None, 17, None)), (1, (None, None, 4, 21, 17))):
        layer = layers.GroupedQueryAttention(4, 3, 2, attention_axes=axes)
        assert layer(*sides, return_attention_scores=True)[1].shape == expected
    for earlier in (5, None):
        s = earlier and earlier + 21
        positions = {"relative_position_encoding": keras.Input((None, 8)), "state": keras.Input((earlier, 8))}
        weights = call("MultiHeadRelativeAttention", q, q, **positions, return_attention_scores=True)[1]
        assert weights.shape == (None, 4, 21, s)
        cache = {name: keras.Input((earlier, 4, 3)) for name in ("key", "value")}
        assert call("CachedAttention", q, q, cache=cache, return_attention_scores=True)[1].shape == (None, 4, 21, s)


def test_blocks_of_a_known_length_are_counted_in_a_graph():
    masks = layers.BigBirdMasks(block_size=2)(keras.Input((15, 8)), keras.Input((15,)))
    assert [mask.shape for mask in masks] == [(None, 1, 4, 2, 6), (None, 1, 15, 1), (None, 1, 1, 15), (None, 8, 2)]
